"""Jobs on a real SLURM: each ends in a valid results.json, and continues when it starts again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.slurm.cluster import Records, Sweep, call, read_state, statuses, wait_until

Start = Callable[..., Sweep]
pytestmark = pytest.mark.slow

REPEATS = 4
#: One job of four runs.
ONE_JOB = (f"experiment.repeats={REPEATS}", "experiment.test.batch_size=2")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def start_and_wait(sweep: Start, *overrides: str) -> tuple[Sweep, str]:
    """A sweep of one job that has stored a run and measures the next; the job's SLURM id."""
    started = sweep(*ONE_JOB, *overrides)
    wait_until(lambda: started.is_measuring(0, after=1), "a run in flight")
    return started, started.list_jobs()[0]


def assert_continued(started: Sweep, before: Records) -> None:
    """All runs passed, the records from before are kept, and one start continued another."""
    records = started.read(0)
    assert statuses(records) == ["passed"] * REPEATS
    passed = [record for record in before if record["status"] == "passed"]
    assert passed
    assert [record for record in records if record in passed] == passed
    assert started.read_summary(0)["allocation"]["restarts"] >= 1


def finish(started: Sweep, job: str) -> None:
    """Wait until the job has stored everything."""
    wait_until(lambda: statuses(started.read(0)) == ["passed"] * REPEATS, f"{job} complete")
    wait_until(lambda: read_state(job) in ENDED, f"{job} ended")


def test_a_sweep_ends_with_valid_results(sweep: Start) -> None:
    started = sweep("experiment.repeats=1", "experiment.test.batch_size=1,2")

    code, output = started.wait()

    assert code == 0, output
    assert [statuses(started.read(job)) for job in (0, 1)] == [["passed"], ["passed"]]
    allocations = [started.read_summary(job)["allocation"] for job in (0, 1)]
    assert len({allocation["slurm_job"] for allocation in allocations}) == 2


def test_a_killed_job_continues_when_it_is_requeued(sweep: Start) -> None:
    """SIGKILL to every process of the job, as when a node dies."""
    started, job = start_and_wait(sweep)

    call("scancel", "--signal=KILL", job)
    wait_until(lambda: read_state(job) in ENDED, "the job's end")
    before = started.read(0)
    code, output = started.wait()
    assert code == 1
    assert "Traceback" not in output
    call("scontrol", "requeue", job)

    finish(started, job)
    assert_continued(started, before)


def test_a_cancelled_job_stores_what_it_has_and_can_be_requeued(sweep: Start) -> None:
    started, job = start_and_wait(sweep)

    call("scancel", job)
    wait_until(lambda: read_state(job) in ENDED, "the job's end")
    before = started.read(0)
    assert statuses(before)[-1] == "interrupted"
    assert started.read_summary(0)["interrupted"]
    call("scontrol", "requeue", job)

    finish(started, job)
    assert_continued(started, before)


def test_a_requeued_job_continues_by_itself(sweep: Start) -> None:
    started, job = start_and_wait(sweep)

    call("scontrol", "requeue", job)
    wait_until(lambda: read_state(job) == "PENDING", "the requeue")
    before = started.read(0)

    code, output = started.wait()
    assert code == 0, output
    assert_continued(started, before)


def test_a_job_that_reaches_its_time_limit_requeues_itself_and_continues(sweep: Start) -> None:
    """The signal is SLURM's own, as announced with --signal; it may come a minute early."""
    limit = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=60")
    # Long enough for the signal to come in the middle.
    started = sweep(*ONE_JOB, *limit, "experiment.test.min_timed_s=40")

    wait_until(lambda: "interrupted" in statuses(started.read(0)), "the signal")
    before = started.read(0)

    code, output = started.wait()
    assert code == 0, output
    records = started.read(0)
    assert statuses(records) == ["passed"] * REPEATS
    assert [r for r in records if r in before] == [r for r in before if r["status"] == "passed"]
    assert started.read_summary(0)["allocation"]["restarts"] >= 1
