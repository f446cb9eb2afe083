"""Passwords of a command line reach no file and no terminal, wherever the study goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

URI = "tracking.mlflow.uri="


@pytest.mark.parametrize(
    "arguments",
    [
        (f"{URI}http://me:s3cret@host/db",),
        (f"{URI}//me:s3cret@host/db",),
        (f"{URI}'me:s3cret@host/db'",),
        (f"{URI}'http://host/db?password=s3cret'",),
        ("+foo=http://me:s3cret@host",),
        ("output.root=http://me:s3cret@host",),
        ("experiment.vit_configs=[{_target_: a.B, args: {where: 'http://me:s3cret@host'}}]",),
        ("-m", f"{URI}null,http://me:s3cret@host/db"),
        ("-m", f"{URI}null,'me:s3cret@host/db'"),
        ("-m", "+foo=1,http://me:s3cret@host"),
        (f"{URI}http://me:s3cret@host/db", "tracking=null"),
        (f"{URI}http://me:s3cret@host/db", "=3"),
        (f"{URI}http://me:s3cret@host/db", "experimnt=3"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("where", [(), ("hydra.run.dir=mine", "hydra.sweep.dir=mine")])
def test_a_password_in_a_setting_is_refused_and_stored_nowhere(
    runner: Callable[..., Outcome],
    tmp_path: Path,
    arguments: tuple[str, ...],
    where: tuple[str, ...],
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of the user")

    out = runner(*arguments, "experiment=quick_test", *where)

    assert (out.code, out.studies) == (2, [])
    assert out.error
    assert "s3cret" not in out.stdout + out.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_the_snapshot_of_a_refused_start_is_removed_from_a_directory_of_the_user(
    runner: Callable[..., Outcome], tmp_path: Path
) -> None:
    """A password need not look like one."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of the user")

    assert runner("experiment=quick_test", "+foo=s3cret", "hydra.run.dir=mine").code == 2

    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]
