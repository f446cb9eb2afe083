"""The journal: nothing stored is lost by a kill, and every reader sees what results.json lacks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json
from numa_bench.records import Record, Status
from numa_bench.records.journal import Journal, merge_records, read_journal
from numa_bench.runner.resume import check_directory, find_done
from numa_bench.store import REWRITE_SHARE, StudyStore
from numa_bench.study_files import parse_records, read_records
from numa_bench.tracking.view import read_study
from tests.conftest import PROJECT
from tests.fake_worker import make_plan
from tests.specs import record_of, spec_of


class Clock:
    """A clock that moves when it is moved; `tick_s` is what each reading of it takes."""

    def __init__(self) -> None:
        self.now_s, self.tick_s = 0.0, 0.0

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


def ids(records: list[Record]) -> list[tuple[str, int]]:
    return [(record["run_id"], record["attempt"]) for record in records]


def make_stale(directory: Path, *run_ids: str) -> StudyStore:
    """A store whose results.json is empty and whose journal has these runs, as after a kill."""
    clock = Clock()
    store = StudyStore(directory, clock)
    store.__enter__()
    clock.tick_s = 1.0
    store.save_records()  # took a second: not rewritten for the next hundred
    clock.tick_s = 0.0
    for run_id in run_ids:
        store.add_record(record_of(run_id))
    assert read_json(directory / "results.json") == []
    return store


def test_results_are_rewritten_within_their_share_of_the_time(tmp_path: Path) -> None:
    clock = Clock()
    with StudyStore(tmp_path, clock) as store:
        clock.tick_s = 1.0
        store.save_records()
        clock.tick_s = 0.0
        for number in range(50):
            clock.now_s += 10.0
            store.add_record(record_of(f"run{number}"))
            stored = ids(read_json(tmp_path / "results.json"))
            # The first rewrite took 1 s; since then the clock says that they are for nothing.
            late = (number + 1) * 10.0 < 1.0 / REWRITE_SHARE
            assert len(stored) == (0 if late else number + 1)
            assert ids(read_records(tmp_path / "results.json")) == ids(store.records)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_cheap_rewrite_needs_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flush is milliseconds of a short run: that of results.json and of its name suffice."""
    flushed: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with StudyStore(tmp_path, clock=lambda: 0.0) as store:
        flushed.clear()  # opening the store tries whether there is room
        store.prepare_run(spec_of("a"))
        store.add_record(record_of("a"))
    assert [name.partition(".json")[0] for name in flushed] == [".results", tmp_path.name]


def test_a_record_whose_rewrite_fails_is_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("cannot be renamed")

    with StudyStore(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr("numa_bench.store.write_text", fail)
            store.add_record(record_of("a"))
        assert [record["run_id"] for record in read_journal(tmp_path / "results.jsonl")] == ["a"]
        assert "kept in results.jsonl" in caplog.text
    assert ids(read_records(tmp_path / "results.json")) == [("a", 1)]


def test_a_save_writes_as_much_after_a_thousand_records_as_after_one(tmp_path: Path) -> None:
    store = make_stale(tmp_path, "run0000")
    journal = tmp_path / "results.jsonl"
    first = journal.stat().st_size
    for number in range(1, 1000):
        store.add_record(record_of(f"run{number:04}"))
    assert journal.stat().st_size == 1000 * first
    assert read_json(tmp_path / "results.json") == []
    store.__exit__()
    assert len(read_json(tmp_path / "results.json")) == 1000


def test_every_reader_merges_the_journal(tmp_path: Path) -> None:
    store = make_stale(tmp_path, "a", "b")
    assert ids(read_records(tmp_path / "results.json")) == [("a", 1), ("b", 1)]
    assert load_studies(tmp_path).frame["run_id"].tolist() == ["a", "b"]
    assert [r.run_id for r in read_study(tmp_path, points=0, max_file_mb=1).runs] == ["a", "b"]
    store.__exit__()


def test_opening_a_killed_study_brings_results_up_to_date(tmp_path: Path) -> None:
    held = make_stale(tmp_path, "a", "b")
    held._lock.release()  # as the kernel does when the process dies
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(b'{"run_id": "c", "stat')  # the write that the kill interrupted
    with StudyStore(tmp_path) as store:
        assert ids(read_json(tmp_path / "results.json")) == [("a", 1), ("b", 1)]
        assert find_done(store.records) == {"a", "b"}
        store.add_record(record_of("c"))
    assert ids(read_json(tmp_path / "results.json")) == [("a", 1), ("b", 1), ("c", 1)]
    assert not (tmp_path / "results.jsonl").exists()


def test_a_kill_between_the_rewrite_and_the_emptying_of_the_journal(tmp_path: Path) -> None:
    """Every line is in results.json already, some in a state before the last."""
    store = make_stale(tmp_path, "a", "b")
    store.add_record(record_of("a", Status.FAILED, attempt=2))
    store.replace_record({**store.records[0], "nsys_sqlite": "b.sqlite"})
    stale = (tmp_path / "results.jsonl").read_bytes()
    expected = store.records
    store.__exit__()
    (tmp_path / "results.jsonl").write_bytes(stale)
    assert read_records(tmp_path / "results.json") == expected
    with StudyStore(tmp_path) as again:
        assert again.records == expected


def test_replaying_any_part_of_a_journal_changes_nothing() -> None:
    rng = random.Random(5)
    for _ in range(200):
        attempts = dict.fromkeys("abc", 0)
        lines: list[Record] = []
        for _ in range(rng.randint(1, 8)):
            run_id = rng.choice("abc")
            attempts[run_id] += not attempts[run_id] or rng.random() < 0.5
            lines.append(record_of(run_id, attempt=attempts[run_id], h2d_ms=rng.random()))
        everything = merge_records([], lines)
        cut = rng.randrange(len(lines) + 1)
        assert merge_records(merge_records([], lines[:cut]), lines) == everything
        assert merge_records(merge_records([], lines[:cut]), lines[cut:]) == everything
        assert merge_records(everything, lines) == everything


def test_a_torn_last_line_is_no_record_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_journal(path) == []
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    assert read_journal(path) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\n\x00\x00\x00')  # as after a power failure
    assert read_journal(path) == [{"a": 1}]


def test_a_damaged_journal_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]")
    journal = tmp_path / "results.jsonl"
    journal.write_bytes(b"{]\n")
    with pytest.raises(StoreError, match=r"results\.jsonl: .*; move it away"), StudyStore(tmp_path):
        pass
    assert journal.read_bytes() == b"{]\n"
    problems = load_studies([tmp_path]).problems
    assert [("results.jsonl" in p.reason) for p in problems] == [True]


def test_a_journal_without_results_is_a_study(tmp_path: Path) -> None:
    make_stale(tmp_path, "a")._lock.release()
    (tmp_path / "results.json").unlink()
    assert ids(parse_records(tmp_path / "results.json").records) == [("a", 1)]
    with pytest.raises(StoreError, match="already holds a study"):
        check_directory(tmp_path, make_plan(["m0"]), [])
    with StudyStore(tmp_path) as store:
        assert ids(store.records) == [("a", 1)]


def test_a_write_that_fails_half_way_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "results.jsonl")
    journal.append_lines(['{"a": 1}'])
    real = os.write

    def write_some(handle: int, data: bytes) -> int:
        if len(data) < 6:
            raise OSError(28, "No space left on device")
        return real(handle, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some)
        with pytest.raises(OSError, match="No space left"):
            journal.append_lines(['{"a": "never"}'])
    journal.append_lines(['{"a": 2}', '{"a": 3}'])
    journal.close()
    assert read_journal(tmp_path / "results.jsonl") == [{"a": 1}, {"a": 2}, {"a": 3}]


_WRITER = """
import sys
from pathlib import Path
from numa_bench.store import StudyStore
from tests.specs import record_of
with StudyStore(Path(sys.argv[1])) as store:
    for number in range(len(store.records), 100_000):
        store.add_record(record_of(f"run{number:06}", h2d_ms=float(number)))
        print(number, flush=True)
"""


@pytest.mark.slow
def test_kills_at_any_moment_lose_no_record_that_was_stored(tmp_path: Path) -> None:
    """Ten kills in one study; its results.json is valid JSON after each."""
    rng = random.Random(3)
    stored = -1
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=PROJECT
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randint(1, 60)):
                stored = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            stored = max([stored, *map(int, writer.stdout.read().split())])
        json.loads((tmp_path / "results.json").read_text())
        records = read_records(tmp_path / "results.json")
        # One more than was said at most: the record was written, the line about it was not.
        assert len(records) - 1 in (stored, stored + 1)
        assert [r["run_id"] for r in records] == [f"run{n:06}" for n in range(len(records))]
