"""A study directory: whole at every instant, held by one, and nothing is lost on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.errors import StoreError, StudyFailed
from numa_bench.jsonio import (
    encode_json,
    encode_object,
    join_array,
    read_json,
    replace_non_finite,
    write_json,
    write_text,
)
from numa_bench.records import (
    Record,
    RunSpec,
    Status,
)
from numa_bench.records.journal import Journal
from numa_bench.runner.resume import find_done
from numa_bench.runner.study import run_study
from numa_bench.store import StudyStore
from numa_bench.study_files import SUMMARY
from tests.conftest import PROJECT
from tests.fake_worker import SAMPLES, TOPOLOGY, fake_command, make_plan
from tests.specs import record_of, spec_of


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# Files that are whole at every instant.


def test_a_file_can_be_written_below_directories_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "data.json"
    write_json(path, {"text": "é ✓", "tuple": (1, 2)})
    assert read_json(path) == {"text": "é ✓", "tuple": [1, 2]}
    assert names_in(path.parent) == ["data.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("culprit", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_in_the_middle_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str, error: BaseException
) -> None:
    path = tmp_path / "results.json"
    write_json(path, ["old"])

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os if culprit == "fsync" else Path, culprit, fail)
        with pytest.raises(type(error)):
            write_json(path, ["new"] * 1000)
    assert read_json(path) == ["old"]
    assert names_in(tmp_path) == ["results.json"]


def test_what_json_cannot_hold_touches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, ["old"])
    with pytest.raises(TypeError):
        write_json(path, ["new", object()])
    assert read_json(path) == ["old"]
    assert names_in(tmp_path) == ["results.json"]


def test_a_directory_that_cannot_be_flushed_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "results.json", [1])
    assert read_json(tmp_path / "results.json") == [1]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, [])

    seen_enough = threading.Event()
    written: list[int] = []

    def write_all() -> None:
        while not seen_enough.is_set():
            write_json(path, ["x" * 1000] * (len(written) % 50))
            written.append(1)

    writer = threading.Thread(target=write_all)
    writer.start()
    try:
        lengths = {len(read_json(path)) for _ in range(300)}
    finally:
        seen_enough.set()
        writer.join()
    assert lengths <= set(range(50))
    assert written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_become_null(tmp_path: Path, value: float) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"a": value, "b": [1.5, (value,)], "c": {"d": value}, "e": True})
    assert json.loads(path.read_text()) == {
        "a": None,
        "b": [1.5, [None]],
        "c": {"d": None},
        "e": True,
    }
    assert replace_non_finite({"big": 10**30, "text": "nan"}) == {"big": 10**30, "text": "nan"}


# The store.


def test_pandas_reads_the_results_with_no_preparation(tmp_path: Path) -> None:
    with StudyStore(tmp_path) as store:
        store.add_record(record_of("a_r0", node=0, throughput_samples_per_s=100.0))
        store.add_record(record_of("a_r1", node=0, throughput_samples_per_s=110.0))
        store.add_record(record_of("b_r0", node=1, throughput_samples_per_s=float("nan")))
        store.add_record(record_of("b_r1", Status.FAILED, node=1))
    frame = pd.read_json(tmp_path / "results.json")
    assert frame.groupby("numa_node")["success"].mean().to_dict() == {0: 1.0, 1: 0.5}
    means = frame.groupby("numa_node")["throughput_samples_per_s"].mean()
    assert means[0] == 105.0
    assert pd.isna(means[1])


def test_results_survive_and_tell_what_is_done(tmp_path: Path) -> None:
    with StudyStore(tmp_path) as store:
        for status in Status:
            store.add_record(record_of(status.value, status))
        assert store.has_failures()
    with StudyStore(tmp_path) as store:
        assert [r["run_id"] for r in store.records] == [status.value for status in Status]
        assert find_done(store.records) == {"passed", "waived"}
        assert store.count_statuses() == {status.value: 1 for status in Status}


@pytest.mark.parametrize("status", [Status.PASSED, Status.WAIVED, Status.INTERRUPTED])
def test_what_is_not_bad(tmp_path: Path, status: Status) -> None:
    with StudyStore(tmp_path) as store:
        store.add_record(record_of("a", status))
        assert not store.has_failures()


def test_a_new_attempt_replaces_the_record(tmp_path: Path) -> None:
    with StudyStore(tmp_path) as store:
        store.add_record(record_of("a", Status.FAILED))
        store.add_record(record_of("b"))
        store.add_record(record_of("a", attempt=2))
    found = [(r["run_id"], r["status"], r["attempt"]) for r in read_json(tmp_path / "results.json")]
    assert found == [("b", "passed", 1), ("a", "passed", 2)]


def test_a_record_can_be_replaced_in_its_place(tmp_path: Path) -> None:
    with StudyStore(tmp_path) as store:
        for run_id in ("a", "b"):
            store.add_record(record_of(run_id))
        first = store.records[0]

        store.replace_record({**first, "nsys_sqlite": "nsys_reports/a.sqlite"})

        assert first["nsys_sqlite"] is None
        with pytest.raises(StoreError, match=r"results\.json has no record of c"):
            store.replace_record(record_of("c"))
    found = [(r["run_id"], r["nsys_sqlite"]) for r in read_json(tmp_path / "results.json")]
    assert found == [("a", "nsys_reports/a.sqlite"), ("b", None)]


def test_a_record_is_encoded_once_however_often_results_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def noted(value: Record) -> str:
        encoded.append(value["run_id"])
        return encode_object(value)

    monkeypatch.setattr("numa_bench.store.encode_object", noted)
    with StudyStore(tmp_path) as store:
        for index in range(3):
            store.add_record(record_of(f"run{index}"))
            store.save_records()
        store.replace_record({**record_of("run1"), "error": "one\nand two"})
    assert encoded == ["run0", "run1", "run2", "run1"]
    assert read_json(tmp_path / "results.json")[1]["error"] == "one\nand two"


@pytest.mark.parametrize(
    "items", [[], [{}], [{"a": [1, {"b": "x\ny"}]}, {"c": None, "d": "\u2028"}]]
)
def test_encoded_items_make_the_text_of_their_list(items: list[Any]) -> None:
    assert json.loads(join_array([encode_json(item) for item in items])) == items
    assert json.loads(join_array([encode_object(item) for item in items])) == items


def test_numbers_that_json_cannot_hold_are_null_in_an_object_too() -> None:
    text = encode_object({"a": float("nan"), "b": {"c": [float("inf"), 1]}})
    assert text == '{\n "a": null,\n "b": {"c": [null, 1]}\n}'


def test_results_of_an_older_program_are_completed(tmp_path: Path) -> None:
    old = {k: v for k, v in record_of("a").items() if k not in ("torch_trace", "profiler")}
    write_json(tmp_path / "results.json", [old])
    with StudyStore(tmp_path) as store:
        assert store.records == [record_of("a")]


def test_results_of_a_newer_program_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", [{**record_of("a"), "schema_version": 99}])
    with pytest.raises(StoreError, match="update it to a version that reads schema_version 99"):
        StudyStore(tmp_path).__enter__()


def test_files_of_earlier_attempts_are_kept(tmp_path: Path) -> None:
    with StudyStore(tmp_path) as store:
        for attempt in (1, 2, 3):
            assert store.count_attempts("a") == attempt - 1
            paths = store.prepare_run(spec_of("a"))
            assert not paths.result.exists()
            write_json(paths.result, attempt)
            paths.stdout.write_text(f"out {attempt}")
            paths.stderr.write_text(f"err {attempt}")
            store.add_record(record_of("a", Status.FAILED, attempt))
    run = tmp_path / "runs" / "a"
    assert names_in(run) == ["attempt1", "attempt2", "result.json", "spec.json"]
    for attempt in (1, 2):
        kept = run / f"attempt{attempt}"
        assert names_in(kept) == ["a.stderr", "a.stdout", "result.json", "spec.json"]
        assert read_json(kept / "result.json") == attempt
        assert (kept / "a.stderr").read_text() == f"err {attempt}"
    assert RunSpec.from_dict(read_json(run / "spec.json")) == spec_of("a")


def test_an_attempt_without_a_record_counts(tmp_path: Path) -> None:
    """The study was killed in the middle of it: there is its spec, but no record."""
    with StudyStore(tmp_path) as store:
        store.prepare_run(spec_of("a")).stdout.write_text("so far")
    with StudyStore(tmp_path) as store:
        assert store.count_attempts("a") == 1
        assert store.count_attempts("b") == 0
        store.prepare_run(spec_of("a"))
        assert store.count_attempts("a") == 2
    assert (tmp_path / "runs" / "a" / "attempt1" / "a.stdout").read_text() == "so far"


def test_a_result_of_an_earlier_attempt_is_never_taken_for_a_new_one(
    tmp_path: Path, temp: Path
) -> None:
    with StudyStore(tmp_path) as store:
        paths = store.run_paths("a")
        write_json(paths.result, "old")
        write_json(paths.spare_result, "older")
        store.prepare_run(spec_of("a"))
        assert not paths.result.exists()
        assert paths.spare_result.parent == temp
        assert not paths.spare_result.exists()


def test_two_studies_do_not_share_a_spare_result(tmp_path: Path) -> None:
    """The same run of another study may end on the same full machine."""
    first, second = (StudyStore(tmp_path / name).run_paths("a").spare_result for name in ("x", "y"))
    assert first != second
    assert first == StudyStore(tmp_path / "x").run_paths("a").spare_result
    assert first.parent == Path(tempfile.gettempdir())


def test_paths_in_records_are_relative(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    assert store.relative_path(store.run_paths("a").stderr) == "logs/a.stderr"


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[{"run_id": "a", ',
        '{"run_id": "a"}',
        "[1]",
        '[{"run_id": "a", "status": "passed"}]',
        '[{"run_id": "a", "status": "great", "attempt": 1}]',
        b"\xff\xfe\x00",
    ],
    ids=["empty", "half", "no array", "no record", "no attempt", "unknown status", "binary"],
)
def test_results_that_cannot_be_read_are_not_overwritten(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = path.read_bytes()
    with (
        pytest.raises(StoreError, match="move it away to start anew") as caught,
        StudyStore(tmp_path),
    ):
        pass
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    with StudyStore(tmp_path) as store:
        assert store.records == []


def test_a_directory_is_held_by_one_store(tmp_path: Path) -> None:
    with (
        StudyStore(tmp_path),
        pytest.raises(StoreError, match="in use by another run"),
        StudyStore(tmp_path),
    ):
        pass
    with StudyStore(tmp_path):  # it was given back
        pass


def test_a_directory_is_held_against_other_processes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from numa_bench.store import StudyStore\n"
        "with StudyStore(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="in use by another run"), StudyStore(tmp_path):
            pass
        other.kill()
        other.wait()
        with StudyStore(tmp_path):  # a lock dies with its holder
            pass


def test_the_lock_file_is_removed_while_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the release it may be the lock of another process, which would then hold nothing."""
    store = StudyStore(tmp_path)
    there: list[bool] = []
    release = store._lock.release

    def note_and_release() -> None:
        there.append((tmp_path / ".lock").exists())
        release()

    with store:
        assert (tmp_path / ".lock").exists()
        monkeypatch.setattr(store._lock, "release", note_and_release)
    assert there == [False]
    assert names_in(tmp_path) == []


def test_a_directory_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"), StudyStore(tmp_path / "file"):
        pass


def test_clear_removes_own_files_only(tmp_path: Path) -> None:
    others = [".hydra/config.yaml", "notes.txt", "experiment.log", "mine/results.json"]
    own = [
        "results.json",
        "results.jsonl",
        SUMMARY,
        "topology.json",
        "runs/a/spec.json",
        "logs/a.stdout",
        "nsys_reports/a.nsys-rep",
    ]
    for name in [*others, *own]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if name == "results.jsonl" else "[]")
    with StudyStore(tmp_path) as store:
        store.add_record(record_of("a"))
        store.remove_files()
        assert store.records == []
        store.remove_files()  # nothing to remove
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == sorted(others)


# Full disks: as a failing write everywhere, and as a real tiny file system where that is allowed.


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the store's writes below these directories fail; none: there is space again."""
    below: list[Path] = []

    def check(path: Path) -> None:
        if any(path.is_relative_to(directory) for directory in below):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def checked(write: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        def written(path: Path, data: Any) -> None:
            check(path)
            write(path, data)

        return written

    real_append = Journal.append_lines

    def append(journal: Journal, lines: list[str]) -> None:
        check(journal.path)
        real_append(journal, lines)

    def fill(*directories: Path) -> None:
        below[:] = directories

    monkeypatch.setattr("numa_bench.records.journal.Journal.append_lines", append)
    monkeypatch.setattr("numa_bench.store.write_json", checked(write_json))
    monkeypatch.setattr("numa_bench.store.write_text", checked(write_text))
    monkeypatch.setattr("numa_bench.records.spare_files.write_text", checked(write_text))
    return fill


def test_a_record_that_cannot_be_written_is_written_with_the_next(
    tmp_path: Path, full: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with StudyStore(tmp_path) as store:
        store.add_record(record_of("a"))
        full(tmp_path)
        store.add_record(record_of("b"))
        store.write_file(SUMMARY, {})
        assert not store.is_current
        assert [r["run_id"] for r in read_json(tmp_path / "results.json")] == ["a"]
        full()
        store.add_record(record_of("c"))
        assert store.save_somewhere() == tmp_path / "results.json"
    assert [r["run_id"] for r in read_json(tmp_path / "results.json")] == ["a", "b", "c"]
    assert "results.json could not be written" in caplog.text
    assert f"{SUMMARY} could not be written" in caplog.text


def test_finish_writes_what_is_left(tmp_path: Path, full: Callable[..., None]) -> None:
    with StudyStore(tmp_path) as store:
        full(tmp_path)
        store.add_record(record_of("a"))
        full()
        assert store.save_somewhere() == tmp_path / "results.json"
    assert [r["run_id"] for r in read_json(tmp_path / "results.json")] == ["a"]


def test_finish_turns_to_the_temporary_directory(
    tmp_path: Path, temp: Path, full: Callable[..., None]
) -> None:
    with StudyStore(tmp_path / "study") as store:
        full(tmp_path / "study")
        store.add_record(record_of("a"))
        saved = store.save_somewhere()
        assert saved.is_relative_to(temp)
        assert read_json(saved) == store.records
        full(tmp_path)
        with pytest.raises(StoreError, match="could not be written anywhere"):
            store.save_somewhere()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tiny disk")
    options = ["-o", "size=128k,mode=755", "tmpfs", str(disk)]
    tried = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {tried.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_disk(directory: Path) -> Path:
    """Take all space; remove the file to give it back."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def test_a_really_full_disk_and_space_again(tiny_disk: Path) -> None:
    with StudyStore(tiny_disk / "study") as store:
        store.add_record(record_of("a"))
        filler = fill_disk(tiny_disk)
        store.add_record(record_of("b"))
        assert [r["run_id"] for r in read_json(tiny_disk / "study" / "results.json")] == ["a"]
        assert names_in(tiny_disk / "study") == [".lock", "results.json", "results.jsonl"]
        assert (tiny_disk / "study" / "results.jsonl").read_bytes() == b""
        filler.unlink()
        assert store.save_somewhere() == tiny_disk / "study" / "results.json"
    assert [r["run_id"] for r in read_json(tiny_disk / "study" / "results.json")] == ["a", "b"]


def test_a_study_whose_disk_fills_up_goes_on_and_loses_nothing(
    tiny_disk: Path, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny_disk / "study"
    behaviours = {"m0": "good", "m1": "fills_disk", "m2": "good"}
    monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", fake_command(behaviours))
    plan = make_plan(["m0", "m1", "m2"])
    with pytest.raises(StudyFailed, match=r"the results \(.*\) could not be written to") as caught:
        run_study(plan, TOPOLOGY, directory)
    assert caught.value.exit_code == 1

    (saved,) = temp.glob("numa_bench-*/results.json")
    assert str(saved) in str(caught.value)
    first, second, third = read_json(saved)
    assert [r["status"] for r in (first, second, third)] == ["passed", "passed", "failed"]
    assert second["throughput_samples_per_s"] == 100.0
    (spare,) = temp.glob("numa_bench-*-result.json")
    assert str(spare) in second["warnings"][0]
    assert read_json(spare)["samples"] == SAMPLES
    assert "its files cannot be written" in third["error"]
    assert third["throughput_samples_per_s"] is None
    assert read_json(directory / "results.json") == [first]

    (directory / "filler").unlink()
    monkeypatch.setattr(
        "numa_bench.runner.worker_run.worker_command",
        fake_command(dict.fromkeys(behaviours, "good")),
    )
    run_study(plan, TOPOLOGY, directory)
    found = {r["vit_name"]: r for r in read_json(directory / "results.json")}
    # The run that failed for lack of space is tried again; what was measured is not.
    assert [found[name]["attempt"] for name in ("m0", "m1", "m2")] == [1, 1, 2]
    assert {record["status"] for record in found.values()} == {"passed"}
    assert found["m1"] == {**second, "warnings": []}
    raw = directory / "runs" / found["m1"]["run_id"] / "result.json"
    assert read_json(raw)["samples"] == SAMPLES
    assert list(temp.glob("numa_bench-*")) == []
