"""An SQLite database that MLflow cannot use is reported before MLflow retries for minutes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.config.schemas.output import MlflowConfig, TrackingConfig
from numa_bench.errors import MachineError
from numa_bench.runner import worker_run
from numa_bench.runner.study import run_study
from numa_bench.tracking.base import TrackingError
from numa_bench.tracking.command import main as track
from numa_bench.tracking.database_file import check_database, create_database
from tests.conftest import PROJECT
from tests.fake_worker import TOPOLOGY, fake_command, make_plan

#: The process of root that may not do more than other users.
WEAK = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


def below_a_file(home: Path) -> tuple[Path, str]:
    (home / "file").write_text("")
    return home / "file" / "x.db", "is no directory"


def a_directory(home: Path) -> tuple[Path, str]:
    return home, "is no SQLite database"


def something_else(home: Path) -> tuple[Path, str]:
    (home / "x.db").write_text("a" * 100)
    return home / "x.db", "is no SQLite database"


UNUSABLE = [below_a_file, a_directory, something_else]


@pytest.mark.parametrize("make", UNUSABLE)
def test_what_cannot_be_a_database_is_refused(
    tmp_path: Path, make: Callable[[Path], tuple[Path, str]]
) -> None:
    path, reason = make(tmp_path)
    with pytest.raises(TrackingError, match=f"{reason}.*tracking.mlflow.uri"):
        check_database(f"sqlite:///{path}")


def test_a_database_and_what_mlflow_can_create_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("create table t (x)")
    (tmp_path / "empty.db").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    for path in (f"{tmp_path}/old.db", "old.db", "empty.db", "new.db", "new/deeper/new.db"):
        check_database(f"sqlite:///{path}")
    for uri in ("sqlite:///:memory:", "sqlite://", "http://host", "postgresql://host/db"):
        check_database(uri)

    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["new.db", "old.db", "new/new.db"])
def test_permissions_count(tmp_path: Path, name: str) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    place = tmp_path / "place"
    place.mkdir()
    (place / "old.db").touch()
    place.chmod(0o555)
    code = "import sys; from numa_bench.tracking.database_file import check_database as c; "
    done = subprocess.run(
        [
            *(WEAK if os.geteuid() == 0 else ()),
            *(sys.executable, "-c", f"{code} c(sys.argv[1])", f"sqlite:///{place / name}"),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    place.chmod(0o755)
    assert f"TrackingError: {place} is not writable" in done.stderr


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting would be reported as a package that is missing, and take no minutes."""
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)


@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.slow
def test_a_study_warns_once_and_sync_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(worker_run, "worker_command", fake_command({"m0": "good", "m1": "good"}))
    uri = f"sqlite:///{tmp_path}"
    tracking = TrackingConfig(mlflow=MlflowConfig(enabled=True, uri=uri))
    directory = tmp_path / "outputs" / "study"

    run_study(replace(make_plan(["m0", "m1"]), tracking=tracking), TOPOLOGY, directory)

    reason = f"{tmp_path} is no SQLite database; correct that, or set another tracking.mlflow.uri"
    warnings = [record.getMessage() for record in caplog.records if "mlflow" in record.getMessage()]
    assert warnings == [f"mlflow at {uri}: {reason}; the study goes on"]
    assert "2 runs are not in mlflow yet" in capsys.readouterr().out
    assert track(["sync", str(directory), "--uri", uri]) == 2
    assert capsys.readouterr().err == f"error: {reason}\n"


@pytest.mark.usefixtures("no_mlflow")
def test_a_required_database_ends_the_study_before_it_starts(tmp_path: Path) -> None:
    tracking = TrackingConfig(
        mlflow=MlflowConfig(enabled=True, uri=f"sqlite:///{tmp_path}"), required=True
    )
    plan = replace(make_plan(["m0"]), tracking=tracking)
    with pytest.raises(MachineError, match=f"{tmp_path} is no SQLite database"):
        run_study(plan, TOPOLOGY, tmp_path / "s")


def test_a_database_whose_creation_was_killed_is_created_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "below" / "mlflow.db"

    def half(uri: str) -> None:
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            database.execute("CREATE TABLE half (a)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_database(f"sqlite:///{path}", half)
    assert list(path.parent.iterdir()) == []

    create_database(f"sqlite:///{path}", make_table)

    assert list(path.parent.iterdir()) == [path]
    assert list_tables(path) == ["whole"]


def test_a_database_that_another_study_created_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def create(uri: str) -> None:
        make_table(uri)
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE of_another (a)")

    create_database(f"sqlite:///{path}", create)

    assert list_tables(path) == ["of_another"]
    create_database(f"sqlite:///{path}", create)
    assert list_tables(path) == ["of_another"]


def make_table(uri: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        database.execute("CREATE TABLE whole (a)")


def list_tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
