"""Workers that end, or do not end, in ways that no handler of theirs can soften.

Each case asserts records, exit code and files, that no process is left, and that the next start of
the same study completes it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from tests.fake_worker import HUGE_LOG_BYTES, READY, carriers, wait_until
from tests.study_driver import Driver

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

Drive = Callable[..., Driver]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Starts a study of these behaviours in one directory; what is left of any is killed."""
    drivers: list[Driver] = []

    def start(*words: str) -> Driver:
        drivers.append(Driver(tmp_path / "study", *words))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.clear()


def check_next_start(drive: Drive, before: list[dict[str, Any]]) -> None:
    """What had passed is not run again, everything else is, and nothing temporary is left."""
    again = drive(*("raises" if record["success"] else "good" for record in before))
    code, err = again.end()
    assert code == 0, err
    after = {record["run_id"]: record for record in read_json(again.directory / "results.json")}
    assert sorted(after) == sorted(run.run_id for run in again.runs)
    for record in before:
        new = after[record["run_id"]]
        assert (
            new == record if record["success"] else (new["status"], new["attempt"]) == ("passed", 2)
        )
    assert [path for path in again.directory.rglob("*") if path.suffix in (".tmp", ".lock")] == []
    assert carriers(again.mark) == []


def test_a_worker_that_hangs_in_c_and_blocks_signals(drive: Drive) -> None:
    driver = drive("--grace-s=0.2", "good", "hangs_in_c")
    driver.wait_for(1, READY)
    driver.signal(signal.SIGINT)
    code, err = driver.end()
    assert (code, "Traceback" in err) == (130, False)
    records = driver.records()
    assert [record["status"] for record in records] == ["passed", "interrupted"]
    assert records[1]["exit_code"] == -signal.SIGKILL
    assert carriers(driver.mark) == []
    check_next_start(drive, records)


def test_a_worker_that_is_killed_as_if_for_lack_of_memory(drive: Drive) -> None:
    """The study goes on; the error names both causes that a SIGKILL can have."""
    driver = drive("good", "hang", "good")
    driver.wait_for(1, READY)
    (worker,) = [pid for pid in carriers(driver.mark) if is_worker(pid)]
    os.kill(worker, signal.SIGKILL)
    code, err = driver.end()
    assert (code, "Traceback" in err) == (1, False)
    records = driver.records()
    assert [record["status"] for record in records] == ["passed", "failed", "passed"]
    assert records[1]["exit_code"] == -signal.SIGKILL
    assert records[1]["error"].startswith("killed")
    assert "memory" in records[1]["error"]
    assert carriers(driver.mark) == []
    check_next_start(drive, records)


def is_worker(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"--spec" in words


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("half", "exit code 0, and its result cannot be read: "),
        ("huge_log", "said so\n"),
    ],
)
def test_a_worker_that_leaves_half_a_result_or_a_huge_log(
    drive: Drive, behaviour: str, error: str
) -> None:
    driver = drive("good", behaviour, "good")
    code, err = driver.end()
    assert (code, "Traceback" in err) == (1, False)
    records = driver.records()
    assert [record["status"] for record in records] == ["passed", "failed", "passed"]
    assert records[1]["error"].startswith(error)
    assert len(records[1]["error"]) < 100_000
    logs = [driver.directory / records[1][name] for name in ("stdout_log", "stderr_log")]
    if behaviour == "huge_log":
        assert all(log.stat().st_size > HUGE_LOG_BYTES for log in logs)
        assert records[1]["error"].endswith("the end")
    check_next_start(drive, records)


def test_a_second_study_in_the_same_directory(drive: Drive) -> None:
    """It is refused in one line, and the first one goes on as if nothing had been."""
    first = drive("good", "hang")
    first.wait_for(1, READY)
    second = drive("good", "good")
    code, err = second.end()
    assert code == 2
    (line,) = err.splitlines()
    assert "is in use by another run; wait for it, or choose another directory" in line
    first.signal(signal.SIGTERM)
    assert first.end()[0] == 130
    wait_until(lambda: carriers(first.mark) == [], "no process is left")
    check_next_start(drive, first.records())
