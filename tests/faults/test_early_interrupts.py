"""Ctrl-C while a program loads its modules ends it without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

#: What each program loads early, in place of which comes a module that is interrupted.
PROGRAMS = {
    "hydra_experiment_runner.py": "hydra",
    "analysis/analyze.py": "hydra",
    "analysis/inspect_report.py": "numpy",
    "-m numa_bench run": "hydra",
    "-m numa_bench analyze": "hydra",
    "-m numa_bench inspect": "numpy",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_while_modules_are_loaded(tmp_path: Path, program: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {PROGRAMS[program]!r}:\n"
        "            print('loading', flush=True)\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    words = program.split()
    if words[0] != "-m":
        words[0] = str(PROJECT / words[0])
    done = subprocess.run(
        [sys.executable, *words, "x"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'first'}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "loading\n", "")
