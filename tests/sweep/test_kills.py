"""A sweep whose main process is killed at any moment is finished, and loses nothing measured."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.study_files import read_records
from tests.fake_worker import carriers, wait_until
from tests.sweep.test_jobs import by_launcher_or_ray, starting, sweeping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOBS, REPEATS = 2, 2
#: What a kill may meet, by a pattern below a job: a run that starts, its result, its record.
MOMENTS = {"spec": "runs/*/spec.json", "result": "runs/*/result.json", "record": "results.json*"}


def count_moments(sweep: Path, moment: str) -> int:
    """How often a moment has come so far."""
    if moment == "record":
        return len(read_all(sweep))
    return len(list(sweep.glob(f"*/{MOMENTS[moment]}")))


def read_all(sweep: Path) -> dict[tuple[str, str], Any]:
    """Every stored record of a sweep by job and run."""
    found: dict[tuple[str, str], Any] = {}
    for path in sweep.glob("[0-9]*/results.json"):
        records = read_records(path)
        assert len({record["run_id"] for record in records}) == len(records)
        found |= {(path.parent.name, record["run_id"]): record for record in records}
    return found


def find_sweep(folder: Path) -> Callable[[], list[Path]]:
    return lambda: [path.parent for path in folder.glob("outputs/multirun/*/*/multirun.yaml")]


def find_own(token: str) -> list[int]:
    """Processes of the sweep. Agents of a killed Ray may outlive it by minutes; they run no job."""
    return [pid for pid in carriers(token) if not read_title(pid).endswith(b"Agent")]


def read_title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ")
    except OSError:
        return b""


@by_launcher_or_ray
def test_a_killed_sweep_is_finished_with_every_run_once(tmp_path: Path, launcher: str) -> None:
    moment = random.choice(list(MOMENTS))
    number = random.randint(1, JOBS * REPEATS)
    when = f"killed at {moment} {number}"
    repeats = (f"experiment.repeats={REPEATS}",)
    with sweeping(tmp_path, launcher, *["good"] * JOBS, more=repeats) as (process, token):
        wait_until(find_sweep(tmp_path), "the sweep", limit_s=120)
        (sweep,) = find_sweep(tmp_path)()
        wait_until(lambda: count_moments(sweep, moment) >= number, when, limit_s=120)
        process.kill()
        process.communicate()
        # The kernel asks its jobs to end; they store what they have.
        wait_until(lambda: find_own(token) == [], "the jobs end with the sweep")
    measured = {key: r for key, r in read_all(sweep).items() if r["status"] == "passed"}
    if moment == "record":
        assert len(read_all(sweep)) >= number

    with starting(tmp_path, (f"resume_from={sweep}",), *["good"] * JOBS) as (process, _):
        output, _ = process.communicate()
        assert process.returncode == 0, f"{when}: {output}"
    after = read_all(sweep)
    planned = {
        (str(job), run_id)
        for job in range(JOBS)
        for run_id in read_json(sweep / str(job) / "experiment_summary.json")["run_order"]
    }
    assert len(planned) == JOBS * REPEATS
    assert set(after) == planned, when
    assert {record["status"] for record in after.values()} == {"passed"}, when
    # What was measured before is there as it was, and was not measured again.
    assert {key: after[key] for key in measured} == measured, when
