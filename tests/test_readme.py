"""Every command of the README works as written, and the docs refer to files that exist."""

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
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
#: Where the paths on a page start: docs/architecture.md names files relative to their room.
ROOTS = (PROJECT, PROJECT / "numa_bench", PROJECT / "numa_bench" / "analysis")
PYTHON_NAMES = {
    path.name for root in ("numa_bench", "analysis") for path in PROJECT.glob(f"{root}/**/*.py")
}
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
    assert gate.rstrip().endswith(".venv/bin/python -m pytest -n auto")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed")
@pytest.mark.parametrize(
    "command", [c for c in RUNNER if "resume_from" not in c and "profiler=nsys" not in c]
)
def test_a_command_is_accepted(command: str, tmp_path: Path) -> None:
    """As a dry run in an empty directory. A missing node is an error of one line."""
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
    assert "python -m numa_bench.topology" in COMMANDS
    done = subprocess.run(
        [sys.executable, "-m", "numa_bench.topology"],
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_file_on_a_page_exists(page: Path) -> None:
    """A path is relative to the project or a room; a bare name is that of some module."""
    paths = re.findall(r"[\w./-]+\.py\b", page.read_text())

    missing = [
        path
        for path in paths
        if not any((root / path).is_file() for root in ROOTS)
        and ("/" in path or path not in PYTHON_NAMES)
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_on_a_page_exists(page: Path) -> None:
    """Dotted names are modules, packages, or a function in one of these."""
    names = re.findall(r"\bnuma_bench(?:\.\w+)+", page.read_text())
    for name in names:
        module = PROJECT.joinpath(*name.split("."))
        places = (module, module.with_suffix(".py"), module.parent.with_suffix(".py"))
        assert any(place.exists() for place in places), name
