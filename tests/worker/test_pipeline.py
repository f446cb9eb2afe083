"""The CPU pipeline does the stages on the right data, and metrics mean what they say."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numa_bench.worker.buffers import BatchRing, HostBuffer, SamplePool
from numa_bench.worker.pipelines.metrics import (
    compute_percentile,
    overlap_efficiency,
    window_metrics,
)
from numa_bench.worker.pipelines.pipeline import CpuPipeline, Limits, Window
from numa_bench.worker.recorder import NoMarks

SHAPE = (2, 3, 8, 8)


def ring(shape: tuple[int, ...] = SHAPE, batches: int = 2) -> BatchRing:
    """Host memory for outputs."""
    return BatchRing(shape, torch.float32, nbytes=1, least=batches)


def make_pool(batches: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> SamplePool:
    nbytes = batches * math.prod(SHAPE) * dtype.itemsize
    return SamplePool(SHAPE, dtype, nbytes=nbytes, seed=seed)


def test_pool_is_as_large_as_asked_and_read_round_robin() -> None:
    pool = make_pool(batches=3)
    addresses = [pool.next_batch().data_ptr() for _ in range(7)]
    assert len(set(addresses)) == 3
    assert addresses[:3] == addresses[3:6]
    assert addresses[6] == addresses[0]


def test_pool_is_seeded_and_its_batches_differ() -> None:
    one, same, other = make_pool(seed=1), make_pool(seed=1), make_pool(seed=2)
    assert torch.equal(one.buffer.tensor, same.buffer.tensor)
    assert not torch.equal(one.buffer.tensor, other.buffer.tensor)
    assert not torch.equal(one.next_batch(), one.next_batch())


def test_large_pool_has_no_two_equal_neighbours() -> None:
    shape = (8, 3, 224, 224)
    pool = SamplePool(shape, torch.float32, nbytes=60_000_000, seed=0)
    rows = [pool.next_batch() for _ in range(pool.batches)]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(rows))


def test_host_buffer_says_where_it_is() -> None:
    buffer = HostBuffer((5, 7), torch.bfloat16)
    assert buffer.address == buffer.tensor.data_ptr()
    assert buffer.nbytes == 70
    assert buffer.address % 4096 == 0


def test_the_output_that_comes_back_is_the_models_for_each_batch() -> None:
    pool = make_pool(batches=3)
    seen: list[torch.Tensor] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch.flatten(1)[:, :5] * 2

    pipeline = CpuPipeline(model, pool, ring((2, 5)), depth=2)
    window = pipeline.run(Limits(4))
    rows = pool.buffer.tensor
    assert [torch.equal(a, rows[i % 3]) for i, a in enumerate(seen)] == [True] * 4
    assert torch.equal(pipeline.last_output(), rows[0].flatten(1)[:, :5] * 2)
    assert window.batches == 4


def test_depth_is_the_number_of_buffers() -> None:
    pool = make_pool()
    inputs: list[int] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        inputs.append(batch.data_ptr())
        return batch

    pipeline = CpuPipeline(model, pool, ring(batches=3), depth=3)
    pipeline.run(Limits(7))
    assert len(set(inputs)) == 3
    assert inputs[:3] == inputs[3:6]
    assert len(pipeline.host_buffers) == 1 + 3 + 1
    assert inputs[0] != pool.first_batch().data_ptr()


def test_a_spent_budget_stops_after_the_batch_in_flight() -> None:
    pipeline = CpuPipeline(lambda x: x, make_pool(), ring(), depth=2)
    assert pipeline.run(Limits(1000, 0.0)).batches == 1


def test_a_window_lasts_its_least_time_however_few_batches_were_asked_for() -> None:
    pipeline = CpuPipeline(lambda x: x, make_pool(), ring(), depth=2)
    window = pipeline.run(Limits(1, least_s=0.02))
    assert window.wall_s >= 0.02
    assert window.batches == len(window.latency) > 1


def test_outputs_go_round_a_ring_that_no_cache_holds() -> None:
    pool, outputs = make_pool(), ring(batches=5)
    pipeline = CpuPipeline(lambda x: x + 1, pool, outputs, depth=2)
    outputs.buffer.tensor.zero_()
    pipeline.run(Limits(4))
    written = [bool(row.any()) for row in outputs.buffer.tensor]
    assert written == [True, True, True, True, False]


def test_the_garbage_collector_rests_inside_a_window_only() -> None:
    inside: list[bool] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        inside.append(gc.isenabled())
        return batch

    CpuPipeline(model, make_pool(), ring(), depth=1).run(Limits(2))
    assert inside == [False, False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_latency_spans_the_stages() -> None:
    window = CpuPipeline(lambda x: x, make_pool(), ring(), depth=2).run(Limits(5))
    for h2d, compute, d2h, latency in zip(
        window.h2d, window.compute, window.d2h, window.latency, strict=True
    ):
        assert latency == pytest.approx(h2d + compute + d2h)
    assert window.start == sorted(window.start)
    assert window.wall_s * 1e3 >= sum(window.latency)


def test_windows_are_joined_in_time_order() -> None:
    first, second = Window(wall_s=1.0, batches=1), Window(wall_s=2.0, batches=1)
    first.add_batch(0, 1, 2, 3, 6)
    second.add_batch(5, 1, 1, 1, 3)
    first.extend(second)
    assert first.start == [0, 1005]
    assert first.wall_s == 3.0
    assert first.batches == 2
    assert first.busy_ms() == [6, 3]


def test_samples_have_one_value_per_batch_and_stage() -> None:
    samples = CpuPipeline(lambda x: x, make_pool(), ring(), depth=1).run(Limits(3)).to_samples()
    assert set(samples) == {"start_ms", "h2d_ms", "compute_ms", "d2h_ms", "latency_ms"}
    assert {len(values) for values in samples.values()} == {3}


def window_of(stages: list[tuple[float, float, float]], wall_ms: float) -> Window:
    window = Window(wall_s=wall_ms / 1e3, batches=len(stages))
    for h2d, compute, d2h in stages:
        window.add_batch(0.0, h2d, compute, d2h, h2d + compute + d2h)
    return window


def test_metrics_of_a_known_window() -> None:
    window = window_of([(2.0, 10.0, 1.0)] * 4, wall_ms=52.0)
    metrics = window_metrics(window, batch_size=8, in_bytes=2_000_000, out_bytes=500_000)
    assert metrics["throughput_samples_per_s"] == pytest.approx(32 / 0.052)
    assert metrics["measured_samples"] == 32
    assert metrics["h2d_gb_per_s"] == pytest.approx(1.0)
    assert metrics["d2h_gb_per_s"] == pytest.approx(0.5)
    assert metrics["compute_ms"] == 10.0
    assert metrics["latency_p50_ms"] == 13.0
    assert metrics["overlap_efficiency"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("wall_ms", "expected"), [(40.0, 1.0), (52.0, 0.0), (46.0, 0.5), (58.0, -0.5)]
)
def test_overlap_efficiency(wall_ms: float, expected: float) -> None:
    window = window_of([(2.0, 10.0, 1.0)] * 4, wall_ms=wall_ms)
    assert overlap_efficiency(window) == pytest.approx(expected)


def test_overlap_of_one_batch_is_not_a_number() -> None:
    assert overlap_efficiency(window_of([(2.0, 10.0, 1.0)], wall_ms=13.0)) is None


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=50),
    st.sampled_from([0, 5, 50, 95, 99, 100]),
)
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert compute_percentile(values, percent) == pytest.approx(
        float(np.percentile(values, percent))
    )


class SlowProfiler(NoMarks):
    """A profiler that takes a second of a made-up clock to start, and another one to stop."""

    def __init__(self) -> None:
        self.now_ns = 0

    def clock(self) -> int:
        self.now_ns += 1_000_000  # a millisecond each time it is read
        return self.now_ns

    def open_window(self) -> None:
        self.now_ns += 1_000_000_000

    close_window = open_window


def test_starting_and_stopping_a_profiler_is_not_part_of_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiler = SlowProfiler()
    monkeypatch.setattr("numa_bench.worker.pipelines.pipeline.time.monotonic_ns", profiler.clock)
    pipeline = CpuPipeline(lambda x: x, make_pool(), ring(), depth=2)

    window = pipeline.run(Limits(3, budget_s=0.5), profiler)

    assert window.batches == 3
    assert window.wall_s == pytest.approx(0.013)  # four readings a batch, and the end
    assert window.start[0] == pytest.approx(1.0)
