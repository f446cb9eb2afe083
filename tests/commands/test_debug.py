"""debug=true removes only what a debug study made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from numa_bench.study_files import RESULTS
from tests.conftest import Outcome

Runner = Callable[..., Outcome]
SMALL = ("experiment=quick_test", "experiment.vit_configs=[{depth: 0}]")


def list_files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def make_study(runner: Runner, directory: Path, *words: str) -> None:
    """A study with settings, results and raw files."""
    assert runner(*SMALL, f"hydra.run.dir={directory}", *words).code == 0
    (directory / RESULTS).write_text("[]")
    for folder in ("runs", "logs"):
        (directory / folder).mkdir()
        (directory / folder / "raw").write_text("measured")


def test_debug_in_the_directory_of_a_study(runner: Runner, tmp_path: Path) -> None:
    make_study(runner, tmp_path / "study")
    before = list_files(tmp_path)
    out = runner(*SMALL, "hydra.run.dir=study", "debug=true")
    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith("study holds a study that was not made with debug=true; ")
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("name", ["runs", "logs"])
def test_debug_in_a_directory_with_other_files(runner: Runner, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine" / name / "file").touch()
    before = list_files(tmp_path)
    out = runner(*SMALL, "hydra.run.dir=mine", "debug=true")
    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith(f"mine holds {name}, but no study; ")
    assert list_files(tmp_path) == before


@pytest.mark.parametrize("word", ["debug=true", "++debug=1"])
def test_a_resume_with_debug(runner: Runner, tmp_path: Path, word: str) -> None:
    make_study(runner, tmp_path / "study")
    before = list_files(tmp_path)
    out = runner("resume_from=study", word)
    assert (out.code, out.studies) == (2, [])
    assert out.error == ("debug=true: the resumed study was made without debug=true; remove this")
    assert list_files(tmp_path) == before


@pytest.mark.slow
def test_a_resumed_sweep_with_debug(runner: Runner, tmp_path: Path) -> None:
    assert runner("-m", *SMALL, "experiment.test.batch_size=1,2", "hydra.sweep.dir=s").code == 0
    for job in "01":
        (tmp_path / "s" / job / RESULTS).write_text("[]")
    before = list_files(tmp_path)
    out = runner("resume_from=s", "debug=true")
    assert (out.code, out.studies) == (2, [])
    assert "debug=true: the resumed study was made without debug=true; remove this" in out.error
    assert list_files(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("again", [(), ("debug=true",)], ids=["resume", "resume with debug"])
def test_a_debug_study_is_resumed_and_overwritten(
    runner: Runner, tmp_path: Path, again: tuple[str, ...]
) -> None:
    make_study(runner, tmp_path / "study", "debug=true")
    (plan,) = runner("resume_from=study", *again).studies
    assert (plan.debug, plan.overwrites) == (True, False)
    (plan,) = runner(*SMALL, "hydra.run.dir=study", "debug=true").studies
    assert plan.overwrites


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("hydra.run.dir=",), "hydra.run.dir=''"),
        (("hydra.run.dir=' '",), "hydra.run.dir=''"),
        (("-m", "hydra.sweep.dir=", "experiment.test.batch_size=1,2"), "hydra.sweep.dir=''"),
    ],
)
def test_an_empty_directory_of_hydra_is_refused(
    runner: Runner, tmp_path: Path, words: tuple[str, ...], key: str
) -> None:
    out = runner(*SMALL, *words)
    assert (out.code, out.studies) == (2, [])
    assert out.error == f"{key}: is empty; give a directory, or leave the setting out"
    assert list(tmp_path.iterdir()) == []
