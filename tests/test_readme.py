"""Every command of the README works as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
RUNNER = [c for c in COMMANDS if c.startswith("python hydra_experiment_runner.py")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200
    assert len(RUNNER) >= 8


def test_the_two_commands_set_up_everything() -> None:
    setups = [command for command in COMMANDS if command.startswith("./setup.sh")]
    assert setups == [
        "./setup.sh && .venv/bin/python hydra_experiment_runner.py experiment=quick_test",
        "./setup.sh --dev && .venv/bin/python -m pytest -n auto",
    ]
    gate = (PROJECT / ".ci" / "run").read_text()
    assert "./setup.sh --dev" in gate
    assert gate.rstrip().endswith(".venv/bin/python -m pytest -n auto --cov")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed")
@pytest.mark.parametrize(
    "command", [c for c in RUNNER if "resume_from" not in c and "profiler=nsys" not in c]
)
def test_a_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Dry, in an empty directory. A node that this machine lacks is told in one line."""
    words = [sys.executable, str(PROJECT / "hydra_experiment_runner.py"), *shlex.split(command)[2:]]
    done = subprocess.run(
        [*words, "dry_run=true"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    if done.returncode == 2 and re.search(r"no such node|nothing is remote", done.stderr):
        assert len(done.stderr.splitlines()) == 1
        pytest.skip(f"this machine lacks what it names: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "Nothing was run" in done.stdout


def test_the_topology_command() -> None:
    assert "python -m numa_bench.machine.topology" in COMMANDS
    done = subprocess.run(
        [sys.executable, "-m", "numa_bench.machine.topology"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 0
    assert "NUMA nodes" in done.stdout


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (PROJECT / target).exists(), target
