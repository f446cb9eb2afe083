"""What limits a cell, from the medians of its stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.stats.bounds import find_bounds

RUN = {
    "cell": "a", "device": "cuda", "in_statistics": True, "host_bound": False,
    "host_ms": 0.1, "h2d_ms": 2.0, "compute_ms": 3.0, "d2h_ms": 2.0,
}  # fmt: skip


def bound_of(*runs: dict[str, Any]) -> object:
    return find_bounds(pd.DataFrame([{**RUN, **run} for run in runs]))["a"]


@pytest.mark.parametrize(
    ("run", "bound"),
    [
        ({}, "compute"),
        ({"h2d_ms": 3.5}, "transfer"),
        # On the CPU the two copies add up.
        ({"device": "cpu"}, "transfer"),
        ({"host_ms": 9.0}, "host work"),
        ({"host_bound": True}, "host"),
        ({"compute_ms": np.nan}, None),
    ],
)
def test_the_longest_stage_limits(run: dict[str, Any], bound: str | None) -> None:
    assert bound_of(run) == bound


def test_medians_over_runs_in_the_statistics_decide() -> None:
    slow = {"h2d_ms": 50.0}
    assert bound_of({}, {}, slow) == "compute"
    assert bound_of({}, slow, slow) == "transfer"
    left_out = {**slow, "in_statistics": False}
    assert bound_of({}, left_out, left_out) == "compute"


def test_half_of_the_runs_marked_as_host_bound_are_enough() -> None:
    waited = {"host_bound": True}
    assert bound_of({}, waited) == "host"
    assert bound_of({}, {}, waited) == "compute"
