"""Ctrl-C while a program loads its modules, or prepares its work, ends it without a traceback.

NUMA_BENCH_SIGNALS=60 python -m pytest tests/faults/test_early_interrupts.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

#: At how many imports, evenly spread, each program is interrupted.
MOMENTS = int(os.environ.get("NUMA_BENCH_SIGNALS", "2"))
PROGRAMS = {
    "run": f"{PROJECT}/hydra_experiment_runner.py dry_run=true",
    "analyze": f"{PROJECT}/analysis/analyze.py results=nowhere",
    "inspect": f"{PROJECT}/analysis/inspect_report.py nowhere.sqlite",
    "installed": "-m numa_bench topology",
    "selftest": "-m numa_bench.selftest --list",
}
#: Counts imports from that of a command on, and sends SIGINT at one of them.
SITE = """
import atexit, os, signal, sys
AT = int(os.environ["AT"])
FIRST = ("numa_bench.commands", "numa_bench.cli", "numa_bench.selftest.command")
class Finder:
    count = 0
    def find_spec(self, name, path=None, target=None):
        if self.count or name.startswith(FIRST):
            self.count += 1
        if self.count == AT:
            os.kill(os.getpid(), signal.SIGINT)
finder = Finder()
sys.meta_path.insert(0, finder)
if not AT:
    finder.count = 1
    atexit.register(lambda: open("count", "w").write(str(finder.count)))
"""
#: An application that is interrupted where a KeyboardInterrupt becomes another exception.
APPLICATION = """
import os, signal, sys
def interrupt():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
    except KeyboardInterrupt as error:
        raise RuntimeError("__set_name__") from error
class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
if sys.argv[1] == "import":
    interrupt()
def main():
    if sys.argv[1] == "main":
        interrupt()
    if sys.argv[1] == "del":
        Dropped()
        raise SystemExit(0)
    if sys.argv[1] == "bug":
        raise RuntimeError("a bug")
    return 7
"""


def start(words: list[str], at: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    (cwd / "first").mkdir(exist_ok=True)
    (cwd / "first" / "sitecustomize.py").write_text(SITE)
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "AT": str(at), "PYTHONPATH": f"{cwd / 'first'}:{PROJECT}"},
        # As from a shell, also where the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt_while_modules_are_loaded(tmp_path: Path, program: str) -> None:
    words = PROGRAMS[program].split()
    usual = start(words, 0, tmp_path)
    count = int((tmp_path / "count").read_text())
    before = list_files(tmp_path)
    assert count > 20
    for moment in range(MOMENTS):
        at = 1 + moment * (count - 2) // MOMENTS
        done = start(words, at, tmp_path)
        # Third-party code may drop an interrupt, and late imports may be fewer; early ones count.
        late = {usual.returncode} if at > count // 2 else set()
        assert done.returncode in {130} | late, (at, done)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1, (at, done.stderr)
        assert list_files(tmp_path) == before, at


def list_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.suffix != ".pyc")


def start_application(tmp_path: Path, word: str, **more: Any) -> subprocess.CompletedProcess[str]:
    (tmp_path / "application.py").write_text(APPLICATION)
    code = "import sys; from numa_bench.terminal.entry import run_application as run; "
    return subprocess.run(
        [sys.executable, "-c", code + "sys.exit(run('application'))", word],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


@pytest.mark.parametrize("word", ["import", "main", "del"])
def test_an_interrupt_that_became_another_exception(tmp_path: Path, word: str) -> None:
    done = start_application(
        tmp_path,
        word,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_bugs_and_exit_codes_are_passed_on(tmp_path: Path) -> None:
    assert start_application(tmp_path, "").returncode == 7
    bug = start_application(tmp_path, "bug")
    assert bug.returncode == 1
    assert bug.stderr.endswith("RuntimeError: a bug\n")


def test_interrupts_that_are_ignored_stay_so(tmp_path: Path) -> None:
    done = start_application(
        tmp_path, "main", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    assert (done.returncode, done.stderr) == (7, "")
