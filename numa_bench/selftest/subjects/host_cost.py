"""What the host pays for one batch and for one launch: the limit of light models."""

from __future__ import annotations

import statistics

import torch

from numa_bench.selftest.checks import Check, Figure, Limit
from numa_bench.selftest.context import NO_OP, Context
from numa_bench.selftest.workbench import make_bench
from numa_bench.worker.pipelines.pipeline import Limits, quiet_collector

#: A small batch, 8 images of 224 px in fp32, is 4.8 MB, which PCIe 5.0 x16 copies in 88 us at
#: 55 GB/s. A host that needs longer to submit it limits the pipeline.
BATCH_MOST_US = 80.0
#: Twice the 6 to 8 us that torch needs for one small operation on current server CPUs.
LAUNCH_MOST_US = 15.0
#: Few enough to fit into the driver's queue of about a thousand launches: a full queue would make
#: the host wait for the device.
_BATCHES = 16
_LAUNCHES = 200
#: The median of these counts, which leaves out what a scheduler tick added to one.
_REPEATS = 25


def measure_batch(context: Context) -> Figure:
    """Host time of submitting one no-op batch, without waiting for the device."""
    bench = make_bench(context, NO_OP)
    bench.find_batch_count(context.window_s / 4)
    windows = [bench.pipeline.run(Limits(_BATCHES)) for _ in range(_REPEATS)]
    costs = [(window.submit_s or 0.0) / window.batches * 1e6 for window in windows]
    return _make_figure(costs, f"median of {_REPEATS} windows of {_BATCHES} batches")


def measure_launch(context: Context) -> Figure:
    """Host time of one small operation on the device."""
    runtime = context.require_cuda().runtime
    small, stream = runtime.empty((16,), torch.float32), runtime.new_stream()
    costs = []
    with quiet_collector(), runtime.use_stream(stream):
        for _ in range(_REPEATS + 1):  # the first one loads the kernel
            runtime.synchronize()
            begin = runtime.host_time()
            for _ in range(_LAUNCHES):
                runtime.clone(small)
            costs.append((runtime.host_time() - begin) / _LAUNCHES * 1e6)
    runtime.synchronize()
    return _make_figure(costs[1:], f"median of {_REPEATS} times {_LAUNCHES} small copies")


def _make_figure(costs: list[float], note: str) -> Figure:
    return Figure(statistics.median(costs), note, {"us": costs})


CHECKS = (
    Check(
        "host cost of a batch",
        "does the host submit a batch faster than the link copies it?",
        "us",
        Limit(most=BATCH_MOST_US),
        measure_batch,
        needs_gpu=True,
    ),
    Check(
        "host cost of a launch",
        "does the host launch kernels at the usual rate?",
        "us",
        Limit(most=LAUNCH_MOST_US),
        measure_launch,
        needs_gpu=True,
    ),
)
