"""What the product measures on a device whose times are known: figures against arithmetic."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch

from numa_bench.worker.pipelines.metrics import is_host_bound, window_metrics
from numa_bench.worker.pipelines.pipeline import Limits, Model, StageTimes
from tests.simulation.links import Links
from tests.simulation.pipelines import RecordingPool, make_pipeline
from tests.simulation.timing import TimingRuntime
from tests.simulation.workloads import BALANCED, IN_BYTES, MS, SHAPE, US, build, matmul, no_op

pytestmark = pytest.mark.slow


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


def test_stage_times_alone_are_those_of_the_links() -> None:
    pipeline, _ = build(Links(latency_s=US, noise=0.02, **BALANCED), matmul)
    alone: StageTimes = pipeline.time_stages()

    for times, expected in ((alone.h2d, 0.021), (alone.compute, 0.030), (alone.d2h, 0.0012)):
        assert len(times) == 24
        assert statistics.median(times) == pytest.approx(expected, rel=0.02)
