"""Warm-up ends when stage times have settled, or at its cap, and says which."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from numa_bench.worker.buffers import BatchRing, HostBuffer
from numa_bench.worker.pipelines.pipeline import Limits, StageTimes, Window
from numa_bench.worker.pipelines.warmup import has_settled, warm_up
from numa_bench.worker.recorder import NO_MARKS, Marks


class ScriptedPipeline:
    """A pipeline whose batches take the given times; a window ends when its budget is spent."""

    pool: BatchRing

    def __init__(self, times_ms: Iterator[float]) -> None:
        self.times_ms = times_ms
        self.host_buffers: list[HostBuffer] = []

    def run(self, limits: Limits, marks: Marks = NO_MARKS) -> Window:  # noqa: ARG002
        window = Window()
        while window.batches < limits.batches or window.wall_s < limits.least_s:
            time = next(self.times_ms)
            window.add_batch(0.0, 0.0, time, 0.0, time)
            window.batches += 1
            window.wall_s += time / 1e3
            if window.wall_s >= limits.budget_s:
                break
        return window

    def time_stages(self) -> StageTimes | None:
        return None

    def last_output(self) -> torch.Tensor:
        raise NotImplementedError


def steady(*first: float, then: float = 10.0) -> Iterator[float]:
    yield from first
    while True:
        yield then


def test_steady_times_settle_after_two_blocks() -> None:
    window, record = warm_up(ScriptedPipeline(steady()), 1, 6, 100.0)
    assert record["settled"]
    assert window.batches == record["batches"] == 6


def test_falling_times_are_waited_for() -> None:
    falling = [100.0] * 3 + [50.0] * 3 + [20.0] * 3
    _, record = warm_up(ScriptedPipeline(steady(*falling)), 1, 6, 100.0)
    assert record["settled"]
    assert record["block_medians_ms"] == [100.0, 50.0, 20.0, 10.0, 10.0]


def test_the_least_number_of_samples_is_respected() -> None:
    window, _ = warm_up(ScriptedPipeline(steady()), 4, 40, 100.0)
    assert window.batches * 4 >= 40


def test_the_least_time_is_respected() -> None:
    """Light batches settle within milliseconds; the clocks of a GPU do not."""
    window, record = warm_up(ScriptedPipeline(steady(then=0.1)), 1, 6, 100.0, least_s=1.0)
    assert window.wall_s == pytest.approx(1.0, abs=0.1)
    assert record["settled"]
    assert len(record["block_medians_ms"]) == 20  # of a twentieth of a second each


def test_every_slot_is_warmed() -> None:
    window, _ = warm_up(ScriptedPipeline(steady()), 8, 8, 100.0, depth=16)
    assert window.batches >= 16


@pytest.mark.slow
def test_the_cap_ends_it_and_the_record_says_it_had_not_settled() -> None:
    growing = (10.0 * 2**i for i in range(1000))
    window, record = warm_up(ScriptedPipeline(growing), 1, 6, 0.5)
    assert not record["settled"]
    assert window.wall_s >= 0.5
    assert record["seconds"] == window.wall_s


def test_no_budget_means_no_warm_up() -> None:
    window, record = warm_up(ScriptedPipeline(steady()), 1, 6, 0.0)
    assert window.batches == 0
    assert not record["settled"]


@pytest.mark.parametrize(
    ("medians", "settled"),
    [([], False), ([10], False), ([10, 10.4], True), ([10, 9.4], False), ([10, 20, 20.5], True)],
)
def test_rule(medians: list[float], settled: bool) -> None:
    assert has_settled(medians) is settled
