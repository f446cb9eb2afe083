"""No two measurements of a host at once, by the windows that their records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation.stress import (
    count_together,
    find_overlaps,
    read_all,
    run_gpu_study,
    run_quick_study,
)

JOBS, REPEATS, GPU_REPEATS = 4, 50, 3


def record(begin: float, end: float) -> dict[str, object]:
    return {"study": "s", "run_id": f"r{begin}", "observed": {"window_monotonic_s": [begin, end]}}


def test_an_overlap_is_found() -> None:
    apart = [record(2.0, 3.0), record(0.0, 1.0), record(1.0, 2.0)]

    assert find_overlaps(apart) == []
    assert find_overlaps([*apart, record(2.5, 2.6)]) == [("s: r2.0", "s: r2.5")]
    assert [count_together(apart), count_together([*apart, record(0.5, 2.6)])] == [1, 2]


@pytest.mark.slow
def test_two_hundred_runs_of_four_processes_never_overlap(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    studies = [tmp_path / str(job) for job in range(JOBS)]

    joblib.Parallel(n_jobs=JOBS)(
        joblib.delayed(run_quick_study)(study, tmp_path / "locks", REPEATS) for study in studies
    )

    records = read_all(studies)
    assert [r["status"] for r in records] == ["passed"] * JOBS * REPEATS
    assert find_overlaps(records) == []
    assert not any(r["shared_host"] for r in records)
    # They did want it at the same time: the order of the windows is not that of the studies.
    assert any(r["lock_wait_s"] > 0.001 for study in studies for r in read_all([study])[1:])


@pytest.mark.slow
def test_four_processes_measure_four_gpus_at_once_and_never_two_runs_on_one(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    studies = [tmp_path / str(job) for job in range(JOBS)]

    joblib.Parallel(n_jobs=JOBS)(
        joblib.delayed(run_gpu_study)(study, tmp_path / "locks", job, JOBS, GPU_REPEATS)
        for job, study in enumerate(studies)
    )

    records = read_all(studies)
    assert [r["status"] for r in records] == ["passed"] * JOBS * JOBS * GPU_REPEATS
    assert count_together(records) == JOBS
    for number in range(JOBS):
        own = [r for r in records if r["gpu_id"] == number]
        assert len(own) == JOBS * GPU_REPEATS
        assert find_overlaps(own) == []
    assert all(r["shared_host"] for r in records)
