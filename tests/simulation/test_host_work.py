"""Batches that the host makes: in every order that threads and streams allow, and on the clock."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from numa_bench.worker.buffers import BatchRing, SamplePool
from numa_bench.worker.pipelines import cuda_pipeline
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.metrics import is_host_bound, window_metrics
from numa_bench.worker.pipelines.pipeline import Limits, Model, Window
from numa_bench.worker.recorder import NoMarks
from tests.simulation.links import Links
from tests.simulation.mutants import LOST_HOST_WAITS, build_mutants
from tests.simulation.ordering import OrderingRuntime
from tests.simulation.pipelines import PRODUCT, Classes, make_feed, make_pipeline
from tests.simulation.timing import TimingRuntime
from tests.simulation.workloads import BALANCED, IN_BYTES, SHAPE, US, matmul, no_op

pytestmark = pytest.mark.slow

SMALL = (2, 3, 4)
SEEDS = range(6)


def double(batch: torch.Tensor) -> torch.Tensor:
    return batch.flatten(1)[:, :5] * 2 + 1


MODELS: dict[str, Model] = {"no-op": no_op, "fresh": double}


def deliver(runtime: OrderingRuntime, kind: str, depth: int, classes: Classes = PRODUCT) -> int:
    """Batches through several windows; how many outputs were not those of their batch."""
    feed = make_feed(runtime, SMALL, depth, runtime.write_host, classes)
    pipeline = make_pipeline(runtime, MODELS[kind], feed, depth, classes=classes)
    for batches in (1, 3, 20):
        pipeline.run(Limits(batches))
    assert len(runtime.delivered) == 24
    expected = [MODELS[kind](torch.full(SMALL, i + 1.0)) for i in range(24)]
    return sum(
        not torch.equal(output, right)
        for output, right in zip(runtime.delivered, expected, strict=True)
    )


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_host_batches_are_right_in_every_order(depth: int, kind: str) -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)

        assert deliver(runtime, kind, depth) == 0
        assert [str(race) for race in runtime.races] == []


@pytest.mark.parametrize("name", LOST_HOST_WAITS)
def test_every_lost_wait_of_the_host_is_caught_and_named(name: str) -> None:
    mutant = LOST_HOST_WAITS[name]
    classes = build_mutants(mutant.old, mutant.new)
    kinds, wrong = set(), 0
    for seed in range(12):
        runtime = OrderingRuntime(seed)
        wrong += deliver(runtime, "fresh", 2, classes)
        kinds |= {(race.first.split()[0], race.second.split()[0]) for race in runtime.races}

    assert mutant.race in kinds
    assert wrong > 0


def test_stages_by_themselves_race_with_no_host_work() -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)
        feed = make_feed(runtime, SMALL, 3, runtime.write_host)
        pipeline = make_pipeline(runtime, double, feed, 3)
        for _ in range(2):
            pipeline.run(Limits(8))
            pipeline.time_stages()
            assert torch.equal(pipeline.last_output(), double(feed.last_batch()))
            assert bool((feed.last_batch() == feed.reference_batch()).all())
        assert [str(race) for race in runtime.races] == []


def write_nothing(_target: torch.Tensor, _values: torch.Tensor) -> None:
    """Host work of which only the time counts."""


def time_window(
    links: Links, depth: int = 3, batches: int = 200, model: Model = matmul
) -> tuple[Window, dict[str, Any]]:
    """A window of a pipeline with host work, and its metrics."""
    runtime = TimingRuntime(links)
    feed = make_feed(runtime, SHAPE, depth, write_nothing)
    pipeline = make_pipeline(runtime, model, feed, depth)
    pipeline.run(Limits(1))
    window = pipeline.run(Limits(batches))
    alone = pipeline.time_stages()
    assert alone.gaps == ()
    return window, window_metrics(window, 10, IN_BYTES, 10_000, alone)


def test_host_work_that_is_the_longest_stage_sets_the_pace() -> None:
    window, metrics = time_window(Links(host_work_s=50 * US, **BALANCED))

    # Each batch is made in 50 us; the last one is then copied, computed and copied back.
    assert window.wall_s == pytest.approx((200 * 50 + 20 + 30 + 0.2) * US)
    assert window.host == pytest.approx([0.050] * 200)
    assert metrics["host_ms"] == metrics["host_pipelined_ms"] == pytest.approx(0.050)
    assert metrics["host_wait_fraction"] == pytest.approx(1, abs=0.01)
    assert metrics["host_submit_fraction"] == pytest.approx(0, abs=0.01)
    assert metrics["busiest_stage_fraction"] == pytest.approx(1, abs=0.01)
    assert metrics["overlap_efficiency"] == pytest.approx(1, abs=0.01)
    # The GPU waits for a stage, not for submissions.
    assert not is_host_bound(metrics)


def test_host_work_that_is_short_is_hidden() -> None:
    window, metrics = time_window(Links(host_work_s=10 * US, **BALANCED))

    assert window.wall_s == pytest.approx((10 + 20 + 200 * 30 + 0.2) * US)
    assert metrics["overlap_efficiency"] == pytest.approx(1, abs=0.01)


def test_the_host_runs_ahead_by_the_rows_of_its_ring() -> None:
    """Row r is free when its copy has ended, which waits for the model: the host stays close."""
    window, metrics = time_window(Links(host_work_s=10 * US, **BALANCED), depth=1)

    # With one slot a batch takes its three stages; the host is hidden behind them.
    assert window.wall_s == pytest.approx((10 + 200 * 50.2) * US)
    assert metrics["host_wait_fraction"] > 0.9


def test_a_window_begins_with_nothing_prepared() -> None:
    """However long the host could have worked ahead before it."""
    window, _ = time_window(Links(host_work_s=100 * US, **BALANCED), batches=3)

    assert window.wall_s == pytest.approx((300 + 50.2) * US)


def test_a_window_that_times_a_sample_of_its_batches_keeps_their_host_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda_pipeline, "MOST_TIMED", 4)
    window, _ = time_window(Links(host_work_s=50 * US, **BALANCED), batches=20)

    assert (window.stride, len(window.host), len(window.h2d)) == (5, 4, 4)
    assert window.wall_s == pytest.approx((20 * 50 + 50.2) * US)


def test_every_batch_of_the_host_is_marked() -> None:
    runtime, marked = TimingRuntime(Links()), []

    class Tape(NoMarks):
        def push(self, name: str) -> None:
            marked.append(name)

    pipeline = make_pipeline(runtime, no_op, make_feed(runtime, SHAPE, 2, write_nothing), 2)
    pipeline.run(Limits(7), Tape())

    assert sorted(marked) == sorted(["host", "H2D", "compute", "D2H"] * 7)
    assert marked[:2] == ["host", "H2D"]


def test_host_work_alone_is_timed_for_a_second_at_most() -> None:
    runtime = TimingRuntime(Links(host_work_s=0.4))
    feed = make_feed(runtime, SHAPE, 2, write_nothing)

    assert feed.time_host_work() == pytest.approx([400] * 3)


def test_copies_of_pageable_memory_hold_up_the_host() -> None:
    links = Links(pageable_bytes_per_s=10e9, flop_per_s=1e18)
    runtime = TimingRuntime(links)
    pool = SamplePool(SHAPE, torch.float32, nbytes=5 * IN_BYTES, seed=0)
    outputs = BatchRing(SHAPE, torch.float32, nbytes=5 * IN_BYTES)
    pipeline = CudaPipeline(no_op, pool, outputs, 3, runtime, static_output=False, pageable=True)
    window = pipeline.run(Limits(50))
    alone = pipeline.time_stages()

    # 100 us each way, and the host waits for one copy before it submits the next.
    assert window.wall_s == pytest.approx(50 * 200 * US)
    assert alone.h2d == alone.d2h == pytest.approx([0.1] * 24)
    assert torch.equal(pipeline.last_output(), pool.last_batch())
