"""A wall clock that is set back during a study, as by the first answer of a time server."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.runner import attempt, study, worker_run
from numa_bench.runner.study import run_study
from tests.fake_worker import TOPOLOGY, fake_command, make_plan


class Clock:
    """Goes back by a day each time it is read."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 29, 2, 0, tzinfo=timezone.utc)

    def timestamp(self) -> str:
        self.now -= timedelta(days=1)
        return self.now.isoformat(timespec="milliseconds")

    def time(self) -> float:
        self.now -= timedelta(days=1)
        return self.now.timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    going_back = Clock()
    for module in (attempt, study):
        monkeypatch.setattr(module, "utc_timestamp", going_back.timestamp)
    monkeypatch.setattr(time, "time", going_back.time)
    command = fake_command({"m0": "good", "m1": "good"})
    monkeypatch.setattr(worker_run, "worker_command", command)
    return going_back


@pytest.mark.slow
@pytest.mark.usefixtures("clock")
def test_durations_and_what_is_done_do_not_depend_on_the_wall_clock(tmp_path: Path) -> None:
    begin = time.monotonic()
    run_study(make_plan(["m0", "m1"]), TOPOLOGY, tmp_path / "study")
    first = read_json(tmp_path / "study" / "results.json")
    check(first, time.monotonic() - begin)
    assert first[0]["start_time"] > first[1]["start_time"]

    run_study(make_plan(["m0", "m1"], repeats=2), TOPOLOGY, tmp_path / "study")
    records = read_json(tmp_path / "study" / "results.json")
    check(records, time.monotonic() - begin)
    assert [record for record in records if record["repeat"] == 0] == first
    assert [record["status"] for record in records] == ["passed"] * 4
    assert {record["attempt"] for record in records} == {1}
    summary = read_json(tmp_path / "study" / "experiment_summary.json")
    assert summary["runs_duration_s"] == pytest.approx(sum(r["duration_s"] for r in records))


def check(records: list[dict[str, Any]], elapsed_s: float) -> None:
    assert all(record["duration_s"] > 0 for record in records)
    assert sum(record["duration_s"] for record in records) < elapsed_s
