"""A command line that is refused leaves no directory of a study or a sweep behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from numa_bench.errors import MachineError
from tests.conftest import Outcome

Runner = Callable[..., Outcome]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("experiment.repeats=0",),
        ("experiment.hardware.numa_nodes=7",),
        ("experiment.repeats=0", "dry_run=true"),
        ("experiment.repeats=0", "debug=true"),
        ("experiment.repeats=0", "hydra.run.dir=a/b"),
        ("-m", "experiment.repeats=0,-1"),  # every job refuses its settings
        ("-m", "experiment.repeats=0,x"),  # Hydra refuses to compose a job
        ("-m", "experiment.repeats=0", "hydra.sweep.dir=a/b"),
        ("-m", "experiment.repeats=0", "dry_run=true"),
    ],
    ids=" ".join,
)
def test_a_refused_command_line_leaves_no_directory(
    runner: Runner, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "mine").mkdir()
    assert runner(*arguments).code == 2
    assert runner(*arguments, "output.root=mine").code == 2
    assert runner(*arguments, "output.root=mine/deeper").code == 2

    # A directory that was there before is the user's.
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_machine_that_cannot_run_it_leaves_no_directory(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise MachineError("numactl is not installed")

    monkeypatch.setattr("numa_bench.commands.run.check_binding", refuse)

    assert runner("experiment=quick_test").error == "numactl is not installed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_jobs_that_could_run_keep_their_directories(runner: Runner, tmp_path: Path) -> None:
    out = runner("-m", "experiment=quick_test", "experiment.repeats=1,0,2")

    assert out.code == 2
    (sweep,) = tmp_path.glob("outputs/multirun/quick_test/*")
    assert sorted(path.name for path in sweep.iterdir()) == ["0", "2", "multirun.yaml"]


@pytest.mark.slow
def test_a_refused_start_leaves_the_study_as_it_was(runner: Runner, tmp_path: Path) -> None:
    runner("experiment=quick_test")
    (study,) = tmp_path.glob("outputs/quick_test/*/*")
    (study / "results.json").write_text("[]")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert runner(f"resume_from={study}", "experiment.repeats=0").code == 2
    assert runner("-m", f"resume_from={study}", "experiment.repeats=0").code == 2

    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert [path.name for path in (study / ".hydra").iterdir() if path.is_dir()] == []
