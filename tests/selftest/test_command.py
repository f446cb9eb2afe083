"""The command line: what it prints, writes and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from numa_bench.cli import COMMANDS
from numa_bench.jsonio import read_json
from numa_bench.selftest.command import main
from tests.conftest import PROJECT


def test_the_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("binding ") for line in lines)
    assert any(line.startswith("cost of nsys ") and line.endswith("(--full)") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only=nothing: no such check; use one of: torch, "),
        (["--gpu", "77", "--only", "torch"], "--gpu=77: no such GPU is visible"),
        (["--only", "torch", "--json", "."], "--json=.: is a directory"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2

    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_unknown_option_exits_2() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--bogus"])

    assert ended.value.code == 2


def test_the_installed_command_has_it() -> None:
    assert COMMANDS["selftest"].module == "numa_bench.selftest.command"


@pytest.mark.slow
def test_a_selftest_in_real_processes(tmp_path: Path) -> None:
    """Whether numactl may bind here or not: the table and the file agree with the exit code."""
    path = tmp_path / "out" / "selftest.json"
    checks = ["torch", "binding", "page location", "raw copies H2D"]
    words = [word for name in checks for word in ("--only", name)]

    done = subprocess.run(
        [sys.executable, "-m", "numa_bench.selftest", *words, "--output", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    stored = read_json(path)
    verdicts = {check["name"]: check["verdict"] for check in stored["checks"]}
    assert list(verdicts) == checks
    assert verdicts["torch"] == "passed"
    assert verdicts["raw copies H2D"] == "waived"
    assert verdicts["binding"] != "waived"
    assert done.returncode == int("failed" in verdicts.values()), done.stderr
    assert stored["verdict"] == ("failed" if done.returncode else "passed")
    assert f"results  {path}" in done.stdout
    assert all(name in done.stdout for name in checks)
