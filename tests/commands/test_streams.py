"""Commands end as they would have with an open terminal, whatever becomes of their output."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PYTHON = shlex.quote(sys.executable)
RUNNER = f"{PYTHON} hydra_experiment_runner.py"
DRY = f"{RUNNER} dry_run=true experiment=quick_test tracking=none"


def shell(line: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in the project; the exit code is that of its first program."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=PROJECT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


#: What a user starts, with arguments that print something.
PROGRAMS = {
    "hydra_experiment_runner.py": "dry_run=true experiment=quick_test tracking=none",
    "analysis/analyze.py": "--help",
    "analysis/inspect_report.py": "--help",
    "-m numa_bench": "topology",
    "-m numa_bench.topology": "--json",
    "-m numa_bench.selftest": "--list",
    "-m numa_bench.tracking": "--help",
    "-m numa_bench.config.docs": "",
}
#: Modules that other processes of this program start; their output goes to files or to a parent.
STARTED_BY_OTHERS = {
    *("numa_bench.worker", "numa_bench.worker.probe", "numa_bench.worker.memory_kernels.build"),
    *("numa_bench.selftest.bound_process", "numa_bench.selftest.sampler"),
    *("numa_bench.commands.sweep_job", "numa_bench.profiling.hiding"),
    "numa_bench.runner.programs.guardian",
}


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("redirection", "stderr"),
    [
        ("| true", ""),
        (">&-", ""),
        (">/dev/full", "output could not be written: No space left on device\n"),
    ],
)
def test_a_program_succeeds_without_anyone_to_read_its_output(
    program: str, redirection: str, stderr: str
) -> None:
    done = shell(f"{PYTHON} {program} {PROGRAMS[program]} {redirection}")
    assert (done.returncode, done.stderr) == (0, stderr)


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["| head -1", ">/dev/null 2>&-", ">/dev/full 2>&-"])
def test_a_study_succeeds_without_anyone_to_read_its_output(redirection: str) -> None:
    done = shell(f"{DRY} {redirection}")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_module_that_can_be_started_is_tested_here() -> None:
    found = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__main__")
        for path in (PROJECT / "numa_bench").rglob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    tested = {name.removeprefix("-m ") for name in PROGRAMS if name.startswith("-m ")}
    assert found == tested | STARTED_BY_OTHERS


@pytest.mark.slow
def test_a_mistake_is_exit_code_2_even_with_closed_streams() -> None:
    assert shell(f"{DRY} experiment.repeats=0 >&- 2>&-").returncode == 2


def test_a_file_that_is_opened_later_never_takes_the_number_of_a_closed_stream(
    tmp_path: Path,
) -> None:
    code = (
        "from numa_bench.terminal.streams import guard_streams; guard_streams(); import json, os; "
        f"file = open({str(tmp_path / 'data')!r}, 'w'); print('lost'); "
        "json.dump([file.fileno(), os.get_inheritable(1)], file)"
    )
    assert shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>&-").returncode == 0
    number, inheritable = json.loads((tmp_path / "data").read_text())
    assert number > 2
    assert inheritable


def test_what_is_read_arrives_whole() -> None:
    code = (
        "from numa_bench.terminal.streams import guard_streams; guard_streams(); import sys; "
        "print('é' * 100_000); print('b', file=sys.stderr)"
    )
    done = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}")
    assert done.stdout == "é" * 100_000 + "\n"
    assert done.stderr == "b\n"
