"""Signals at random moments of a study: what is stored stays, and the next start completes it.

NUMA_BENCH_SIGNALS=200 python -m pytest tests/faults/test_random_signals.py
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from numa_bench.jsonio import read_json
from numa_bench.study_files import read_records
from tests.fake_worker import carriers, wait_until
from tests.study_driver import Driver

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

#: How often the test of each signal is repeated.
MOMENTS = int(os.environ.get("NUMA_BENCH_SIGNALS", "1"))
RUNS = ("good", "good", "good")
#: Exit codes of a study that the signal found, and of one that had ended by then.
CODES = {
    signal.SIGKILL: {-signal.SIGKILL, 0},
    signal.SIGINT: {130, 0, -signal.SIGINT},
    signal.SIGTERM: {130, 0, -signal.SIGTERM},
    signal.SIGHUP: {130, 0, -signal.SIGHUP},
}


@pytest.fixture(scope="module")
def usual_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a study takes that nobody disturbs."""
    begin = time.monotonic()
    driver = Driver(tmp_path_factory.mktemp("usual") / "study", *RUNS)
    code, err = driver.end()
    assert code == 0, err
    return time.monotonic() - begin


@pytest.mark.parametrize("number", CODES, ids=lambda number: signal.Signals(number).name)
def test_a_signal_at_any_moment(tmp_path: Path, usual_s: float, number: int) -> None:
    rng = random.Random(number)
    for at in range(MOMENTS):
        moment = rng.uniform(0, usual_s)
        directory = tmp_path / f"study{at}"
        first = Driver(directory, *RUNS)
        second = None
        try:
            time.sleep(moment)  # the moment is what is tested; nothing waits for it
            first.signal(number)
            code, err = first.end()
            assert code in CODES[signal.Signals(number)], (moment, code, err)
            wait_until(partial(has_none, first.mark), "no process is left")
            kept = [record for record in stored(directory) if record["status"] == "passed"]
            second = Driver(directory, *RUNS)
            code, err = second.end()
            assert code == 0, (moment, err)
            check_complete(directory, second, kept)
        finally:
            for driver in filter(None, (first, second)):
                driver.clear()


def stored(directory: Path) -> list[dict[str, object]]:
    """What a reader finds, in results.json and the journal; nothing before the study began."""
    if not (directory / "results.json").exists():
        return []
    return [dict(record) for record in read_records(directory / "results.json")]


def has_none(mark: str) -> bool:
    return carriers(mark) == []


def check_complete(directory: Path, driver: Driver, kept: list[dict[str, object]]) -> None:
    records = {record["run_id"]: record for record in read_json(directory / "results.json")}
    assert sorted(records) == sorted(run.run_id for run in driver.runs)
    assert {record["status"] for record in records.values()} == {"passed"}
    for record in kept:
        assert records[record["run_id"]] == record
    assert list(directory.rglob("*.tmp")) == []
    assert list(directory.rglob("*.lock")) == []
