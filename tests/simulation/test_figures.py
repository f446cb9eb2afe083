"""What the product measures on a device whose times are known: figures against arithmetic."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from numa_bench.worker.cuda_pipeline import CudaPipeline
from numa_bench.worker.cuda_runtime import TorchCuda
from numa_bench.worker.metrics import is_host_bound, window_metrics
from numa_bench.worker.pipeline import Limits, Model, StageTimes
from numa_bench.worker.recorder import NoMarks
from numa_bench.worker.warmup import warm_up
from tests.simulation.pipelines import RecordingPool, make_pipeline
from tests.simulation.timing import Links, TimedEvent, TimingRuntime

#: A batch of 1e6 bytes: 20 us at 50 GB/s.
SHAPE = (10, 25_000)
IN_BYTES = 1_000_000
WEIGHT = torch.ones(25_000, 250)
US, MS = 1e-6, 1e-3
#: matmul below takes 30 us and its output 0.2 us.
BALANCED = {"flop_per_s": 0.125e9 / (30 * US)}


def matmul(batch: torch.Tensor) -> torch.Tensor:
    """One kernel of 2 x 10 x 25000 x 250 = 0.125 GFLOP, with an output of 10 kB."""
    return batch @ WEIGHT


def no_op(batch: torch.Tensor) -> torch.Tensor:
    return batch


def build(
    links: Links, model: Model, depth: int = 3, *, graph: bool = False
) -> tuple[CudaPipeline, TimingRuntime]:
    runtime = TimingRuntime(links)
    pool = RecordingPool(runtime, SHAPE)
    return make_pipeline(runtime, model, pool, depth, graph=graph), runtime


def measure(
    links: Links, model: Model, depth: int = 3, batches: int = 600, *, graph: bool = False
) -> dict[str, Any]:
    """Metrics of a window and of the stages alone, as the worker takes them."""
    pipeline, _ = build(links, model, depth, graph=graph)
    pipeline.run(Limits(1))
    window = pipeline.run(Limits(batches))
    out_bytes = IN_BYTES if model is no_op else 10_000
    alone = pipeline.time_stages()
    assert alone.gaps == ()
    return {**window_metrics(window, 10, IN_BYTES, out_bytes, alone), "batches": window.batches}


def test_stages_that_hide_each_other_have_overlap_one() -> None:
    metrics = measure(Links(**BALANCED), matmul)

    # Only the first batch's H2D and the last one's D2H are seen beside 600 x 30 us.
    assert metrics["overlap_efficiency"] == pytest.approx(1 - 1 / 600)
    assert metrics["throughput_samples_per_s"] == pytest.approx(10 * 600 / (18_020.2 * US))
    assert not is_host_bound(metrics)


def test_one_slot_has_overlap_zero() -> None:
    assert measure(Links(**BALANCED), matmul, depth=1)["overlap_efficiency"] == pytest.approx(0)


def test_copies_that_share_one_bottleneck_gain_nothing_from_overlap() -> None:
    metrics = measure(Links(both_bytes_per_s=50e9), no_op)

    # 40 us for two copies of 20 us: what the pipeline's own times would call hidden.
    assert metrics["overlap_efficiency"] == pytest.approx(0, abs=1e-6)
    assert [metrics["h2d_ms"], metrics["d2h_ms"]] == pytest.approx([0.020, 0.020])
    pipelined = [metrics["h2d_pipelined_ms"], metrics["d2h_pipelined_ms"]]
    assert pipelined == pytest.approx([0.040, 0.040])
    assert metrics["h2d_gb_per_s"] == pytest.approx(50)


def test_copies_that_share_a_part_of_the_link_gain_that_much() -> None:
    metrics = measure(Links(both_bytes_per_s=80e9), no_op)

    # Both directions together move 2 MB in 25 us, of 40 us one after the other and 20 us at best.
    assert metrics["overlap_efficiency"] == pytest.approx(15 / 20, abs=0.005)


def test_a_device_that_idles_because_the_host_is_late_is_host_bound() -> None:
    # 120 us of submissions for a batch of which the busiest stage takes 30 us: idle for 75 %.
    links = Links(submit_s=40 * US, launch_s=40 * US, **BALANCED)
    metrics = measure(links, matmul)

    assert metrics["busiest_stage_fraction"] == pytest.approx(0.25, abs=1e-3)
    assert metrics["host_submit_fraction"] == pytest.approx(1, abs=1e-3)
    assert metrics["overlap_efficiency"] == pytest.approx((50.2 - 120) / 20.2, abs=0.01)
    assert is_host_bound(metrics)


def test_a_host_that_is_early_enough_is_not_what_bounds_the_run() -> None:
    links = Links(submit_s=8 * US, launch_s=8 * US, **BALANCED)
    metrics = measure(links, matmul)

    assert metrics["host_submit_fraction"] == pytest.approx(24 / 30, abs=0.01)
    assert metrics["busiest_stage_fraction"] == pytest.approx(1, abs=0.01)
    assert not is_host_bound(metrics)


def test_a_replayed_graph_frees_the_device_from_a_late_host() -> None:
    links = Links(submit_s=40 * US, launch_s=40 * US, **BALANCED)
    metrics = measure(links, matmul, graph=True)

    # Six batches in a replay; the first H2D and the last D2H of each are seen.
    replays = metrics["batches"] / 6
    busy = (20 + 6 * 30 + 0.2) * US
    # One submission more than the device needs: that of the first replay.
    assert metrics["measured_s"] == pytest.approx(40 * US + replays * busy)
    assert metrics["host_submit_fraction"] < 0.25
    assert not is_host_bound(metrics)


@pytest.mark.parametrize("host_us", [1, 10, 100, 1000])
def test_stage_times_hold_no_host_gaps(host_us: float) -> None:
    """On an idle stream the event before an operation is over long before the operation begins."""
    links = Links(
        submit_s=host_us * US, launch_s=host_us * US, event_s=host_us * US, latency_s=2 * US
    )
    pipeline, _ = build(links, lambda x: (x + 1)[:, :250])
    alone = pipeline.time_stages()

    assert alone.gaps == ()
    assert alone.h2d == pytest.approx([0.022] * len(alone.h2d))
    assert alone.d2h == pytest.approx([0.0022] * len(alone.d2h))


def test_the_stream_is_held_for_as_long_as_the_host_needs() -> None:
    def long_model(batch: torch.Tensor) -> torch.Tensor:
        for _ in range(300):
            batch = batch + 1
        return batch

    pipeline, _ = build(Links(launch_s=1 * MS, kernel_s=US), long_model)
    alone = pipeline.time_stages()

    assert alone.gaps == ()
    assert alone.compute == pytest.approx([0.3] * len(alone.compute))


class RestlessRuntime(TimingRuntime):
    """A device whose streams cannot be held."""

    def hold_stream(self, seconds: float) -> None:
        """See `CudaRuntime.hold_stream`."""


def test_stage_times_with_gaps_are_named_as_such() -> None:
    runtime = RestlessRuntime(Links(submit_s=US, event_s=US))
    pipeline = make_pipeline(runtime, no_op, RecordingPool(runtime, SHAPE), 2)

    assert pipeline.time_stages().gaps == ("H2D", "compute", "D2H")


class WindowMarks(NoMarks):
    """Calls `look` when the submissions of a window begin and when they end."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self.seen: list[Any] = []

    def open_window(self) -> None:
        """See `Marks.open_window`."""
        self.seen.append(self._look())

    def close_window(self) -> None:
        """See `Marks.close_window`."""
        self.seen.append(self._look())


class CountingRuntime(TimingRuntime):
    """Counts the events that it creates."""

    created = 0

    def new_event(self) -> TimedEvent:
        """See `CudaRuntime.new_event`."""
        self.created += 1
        return super().new_event()


@pytest.mark.parametrize("graph", [False, True])
def test_no_event_is_created_while_a_window_is_timed(graph: bool) -> None:
    runtime = CountingRuntime(Links())
    pipeline = make_pipeline(runtime, no_op, RecordingPool(runtime, SHAPE), 2, graph=graph)
    marks = WindowMarks(lambda: (runtime.created, gc.isenabled()))
    for batches in (1, 50, 500):
        pipeline.run(Limits(batches), marks)

    opened, closed = marks.seen[::2], marks.seen[1::2]
    assert opened == closed
    assert not any(collecting for _, collecting in opened)
    assert opened[0] < opened[-1]


def test_a_new_event_is_on_the_device_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch creates an event at its first record, which is a driver call."""
    recorded = []

    class LazyEvent:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            recorded.append((self, stream))

    monkeypatch.setattr(torch.cuda, "Event", LazyEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    runtime = TorchCuda.__new__(TorchCuda)
    runtime.device = torch.device("cuda", 0)

    event = runtime.new_event()
    assert recorded == [(event, "stream of cuda:0")]


class SlotRuntime(TimingRuntime):
    """Notes where on the device copies from the host go."""

    def __init__(self, links: Links) -> None:
        super().__init__(links)
        self.slots: set[int] = set()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy`."""
        super().copy(target, source)
        if self.is_on_device(target):
            self.slots.add(target.data_ptr())


@pytest.mark.parametrize("depth", [1, 3, 4, 8])
def test_every_slot_is_warmed_up(depth: int) -> None:
    runtime = SlotRuntime(Links())
    pipeline = make_pipeline(runtime, no_op, RecordingPool(runtime, SHAPE), depth)
    _, record = warm_up(pipeline, 10, least_samples=1, budget_s=10.0, depth=depth)

    assert len(runtime.slots) == depth
    assert record["settled"]


#: A millisecond for each copy: seconds of the virtual clock are few batches.
SLOW = Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=1e9)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "links",
    [
        SLOW,
        Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=0.2e9),
        Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=1e9, noise=0.05),
    ],
)
def test_windows_last_as_long_as_they_have_to(links: Links, graph: bool) -> None:
    pipeline, _ = build(links, no_op, graph=graph)
    pipeline.run(Limits(1))
    warm, record = warm_up(pipeline, 10, least_samples=60, budget_s=5.0, least_s=1.0, depth=3)
    window = pipeline.run(Limits(6, 60.0, 2.0))

    assert 1.0 <= warm.wall_s < 1.3
    assert record["settled"]
    assert 2.0 <= window.wall_s < 2.2


def test_the_first_block_of_warm_up_lasts_no_longer_than_it_has_to() -> None:
    """A window's batches are counted from the one before, whose pipeline filled and drained."""
    pipeline, _ = build(SLOW, no_op)
    windows = [pipeline.run(Limits(batches, 60.0, 2.0)) for batches in (3, 6)]

    assert windows[0].batches == 3
    assert 2.0 <= windows[1].wall_s < 2.2


def test_a_number_of_batches_means_at_least_so_many() -> None:
    pipeline, _ = build(SLOW, no_op)
    pipeline.run(Limits(10))

    assert pipeline.run(Limits(700, 60.0, 0.5)).batches == 700


def test_the_budget_caps_a_window() -> None:
    pipeline, _ = build(SLOW, no_op)
    pipeline.run(Limits(10))
    window = pipeline.run(Limits(5000, 1.0, 2.0))

    assert window.wall_s == pytest.approx(1.0, rel=0.1)


def test_the_collector_is_called_once_for_a_whole_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two blocks the device idles for as long as a collection takes."""
    calls = []
    monkeypatch.setattr(gc, "collect", lambda: calls.append(1))
    pipeline, _ = build(SLOW, no_op)
    warm_up(pipeline, 10, least_samples=60, budget_s=5.0, least_s=1.0, depth=3)

    assert len(calls) == 1


def test_stage_times_alone_are_those_of_the_links() -> None:
    pipeline, _ = build(Links(latency_s=US, noise=0.02, **BALANCED), matmul)
    alone: StageTimes = pipeline.time_stages()

    for times, expected in ((alone.h2d, 0.021), (alone.compute, 0.030), (alone.d2h, 0.0012)):
        assert len(times) == 24
        assert statistics.median(times) == pytest.approx(expected, rel=0.02)
