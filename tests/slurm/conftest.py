"""Only tests/slurm/run.sh runs these tests: they submit jobs to the cluster that is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Start sweeps, which are ended with the test."""
    if os.environ.get("NUMA_BENCH_SLURM") != "1":
        pytest.skip("submits jobs: tests/slurm/run.sh")
    started: list[Sweep] = []

    def start(*overrides: str) -> Sweep:
        started.append(Sweep(tmp_path, *overrides))
        return started[-1]

    yield start
    for one in started:
        one.close()
