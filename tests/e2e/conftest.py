"""What whole studies share: a program line in this process, and the analysis of what it left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import restore_hydra_and_logging
from tests.e2e import in_process

Line = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def _forget_models() -> Iterator[None]:
    """Free the models, which take gigabytes, for the tests that follow in this process."""
    yield
    in_process.forget_models()


@pytest.fixture
def line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Line]:
    """Run a command line in this process, workers included, in an empty directory.

    Returns the exit code and what was printed on stdout and stderr.
    """
    in_process.install(monkeypatch)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("NUMA_BENCH_OWN_ERRORS", "0")
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = in_process.run_line(text)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    with restore_hydra_and_logging():
        yield run
