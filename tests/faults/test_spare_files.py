"""A disk that takes nothing: what was measured is kept elsewhere, and the next start fetches it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, write_json
from numa_bench.records import Record
from numa_bench.records.spare_files import find_spare_results, move_file, spare_results
from numa_bench.store import StudyStore
from tests.specs import record_of, spec_of

#: What may fail while a file is written, by the name of the function of `os` that fails.
CALLS = ("fsync", "replace", "open")


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory that no other test uses."""
    directory = tmp_path / "temp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def study(tmp_path: Path) -> Path:
    directory = tmp_path / "study"
    with StudyStore(directory) as store:
        store.add_record(record_of("a"))
    return directory


def ids(records: list[Record]) -> list[str]:
    return [record["run_id"] for record in records]


def kill(store: StudyStore) -> None:
    """Leave a store as SIGKILL does: nothing is written, the lock is free."""
    store._release()


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_start_that_could_not_write_loses_no_record(
    study: Path, temp: Path, call: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        store = StudyStore(study).__enter__()
        real = getattr(os, call)

        def fail(target: object, *args: object, **options: object) -> object:
            name = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
            if Path(str(name)).is_relative_to(study):
                raise OSError(errno.ENOSPC, "No space left on device", str(name))
            return real(target, *args, **options)

        patch.setattr(os, call, fail)
        store.add_record(record_of("b"))
        store.add_record(record_of("c"))
    kill(store)

    with StudyStore(study) as again:
        assert ids(again.records) == ["a", "b", "c"]
    assert ids(read_json(study / "results.json")) == ["a", "b", "c"]
    assert list(temp.iterdir()) == []
    assert [path.name for path in study.iterdir()] == ["results.json"]


def leave_spare(study: Path, *run_ids: str) -> Path:
    path = spare_results(study)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_json(path, [record_of(run_id) for run_id in run_ids])
    return path


def test_records_of_a_later_attempt_stay(study: Path) -> None:
    spare = leave_spare(study, "a", "b")
    with StudyStore(study) as store:
        assert ids(store.records) == ["a", "b"]
        assert not spare.exists()
    write_json(study / "results.json", [{**record_of("a"), "attempt": 3}])
    leave_spare(study, "a")
    with StudyStore(study) as store:
        assert [record["attempt"] for record in store.records] == [3]


def test_a_new_study_does_not_take_over_records_of_the_study_that_was_there(
    tmp_path: Path,
) -> None:
    spare = leave_spare(tmp_path / "new", "a")
    with StudyStore(tmp_path / "new") as store:
        assert store.records == []
        store.save_records()
    assert ids(read_json(spare.with_name("results.json.1"))) == ["a"]
    with StudyStore(tmp_path / "new") as store:
        assert store.records == []


def test_spare_records_that_cannot_be_read_are_kept_and_named(
    study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spare = leave_spare(study)
    spare.write_text('[{"run_id": ')
    with StudyStore(study) as store:
        assert ids(store.records) == ["a"]
    kept = spare.with_name("results.json.1")
    assert kept.read_text() == '[{"run_id": '
    assert str(kept) in caplog.text


def test_files_that_others_can_write_are_not_taken_over(study: Path) -> None:
    spare = leave_spare(study, "b")
    spare.parent.chmod(0o777)
    assert find_spare_results(study) is None
    spare.parent.chmod(0o700)
    assert find_spare_results(study) == spare
    spare.rename(spare.with_name("elsewhere"))
    spare.symlink_to("elsewhere")
    assert find_spare_results(study) is None


def test_raw_data_of_an_attempt_without_a_record_is_kept(study: Path) -> None:
    """Its runner was killed, or it failed after it had measured."""
    with StudyStore(study) as store:
        paths = store.prepare_run(spec_of("b"))
        write_json(paths.spare_result, {"samples": [1.0]})
        store.prepare_run(spec_of("b"))
        assert read_json(paths.spec.parent / "attempt1" / "result.json") == {"samples": [1.0]}
        assert not paths.spare_result.exists()


def test_raw_data_of_another_study_is_kept_beside(study: Path) -> None:
    with StudyStore(study) as store:
        paths = store.run_paths("b")
        write_json(paths.spare_result, {"samples": [1.0]})
        store.prepare_run(spec_of("b"))
        kept = paths.spare_result.with_name(f"{paths.spare_result.name}.1")
        assert read_json(kept) == {"samples": [1.0]}


def test_raw_data_comes_back_when_there_is_space(study: Path) -> None:
    with StudyStore(study) as store:
        paths = store.prepare_run(spec_of("b"))
        write_json(paths.spare_result, {"samples": [1.0]})
        lost = f"raw_data: no space left in the study; it is in {paths.spare_result}"
        store.add_record({**record_of("b"), "warnings": ["few: 3", lost]})
    with StudyStore(study) as store:
        record = store.find_record("b")
        assert record is not None
        assert record["warnings"] == ["few: 3"]
        assert read_json(paths.result) == {"samples": [1.0]}
    assert not paths.spare_result.exists()


def test_raw_data_that_is_gone_stays_marked(study: Path) -> None:
    with StudyStore(study) as store:
        store.add_record({**record_of("b"), "warnings": ["raw_data: it is in /nowhere"]})
    with StudyStore(study) as store:
        record = store.find_record("b")
        assert record is not None
        assert record["warnings"] == ["raw_data: it is in /nowhere"]


def test_a_file_moves_between_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "data").write_text("measured")
    real = Path.replace

    def cross(path: Path, target: Path) -> Path:
        if path.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", cross)
    move_file(tmp_path / "data", there / "data")
    assert (there / "data").read_text() == "measured"
    assert [path.name for path in there.iterdir()] == ["data"]
    assert not (tmp_path / "data").exists()


def test_a_directory_without_room_is_refused_before_anything_runs(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (study / "results.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="cannot be written: No space left on device; free"):
            StudyStore(study).__enter__()
    assert (study / "results.json").read_bytes() == before
    assert [path.name for path in study.iterdir()] == ["results.json"]
    with StudyStore(study) as store:
        assert ids(store.records) == ["a"]


def test_torn_writes_of_a_killed_start_are_removed(study: Path) -> None:
    (study / ".results.json.abc123.tmp").write_text("[")
    with StudyStore(study):
        pass
    assert [path.name for path in study.iterdir()] == ["results.json"]
