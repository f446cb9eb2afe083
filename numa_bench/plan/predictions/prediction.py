"""Predict what bounds a run: link, host or compute, from bytes, FLOP and operations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from numa_bench.config.schemas.workload import GRAPH_MODES
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.predictions.device_limits import (
    BATCH_S,
    OPERATION_S,
    DeviceLimits,
    find_cpu_limits,
    find_gpu_limits,
)
from numa_bench.records import NO_HOST_WORK, PIPELINE, DeviceSpec, Expectation, RunSpec
from numa_bench.records.workload import copy_bytes, sample_flop

#: Operations that PyTorch submits for one forward pass of vit-pytorch's ViT, counted: so many
#: beside the blocks, and in each block with explicit attention (41, 75, 109, 143 and 211 for depth
#: 2, 4, 6, 8 and 12). The fused attention replaces five of a block's by one.
_BESIDE_BLOCKS, _PER_BLOCK, _SDPA_SAVES = 7, 17, 4
#: Kernels that torch.compile leaves, assumed: six products of matrices, and element-wise work fused
#: around them.
_COMPILED_BESIDE, _COMPILED_PER_BLOCK = 4, 11


@dataclass(frozen=True)
class Prediction:
    """One batch of a run: what it asks of the device, and how long each part takes by itself.

    Times are in seconds. `copies_s` is what both copies need of the link (on the CPU: of memory);
    `batch_s` what the batch adds to the wall time. `bound` is link, host or compute.
    """

    h2d_bytes: int
    d2h_bytes: int
    flop: int
    operations: int
    copies_s: float
    host_s: float
    compute_s: float
    batch_s: float
    bound: str


@dataclass(frozen=True)
class ModelPrediction:
    """A model with its settings on one kind of device. `run` is one of its runs."""

    run: RunSpec
    limits: DeviceLimits
    prediction: Prediction


def is_predictable(run: RunSpec) -> bool:
    """Whether bytes, FLOP and operations of a run are known beforehand.

    They are of ViTs. Of any other model only the worker knows them, and nothing is assumed of how
    long host work on a batch takes.
    """
    no_work = run.test.host_work == NO_HOST_WORK
    return run.workload == PIPELINE and not run.vit.is_custom and no_work


def predict_run(run: RunSpec, limits: DeviceLimits) -> Prediction:
    """What bounds a predictable run on a device with these limits."""
    test = run.test
    h2d, d2h = copy_bytes(run)
    flop = test.batch_size * (sample_flop(run) or 0)
    operations = count_operations(run)
    in_turn = not limits.overlaps or test.pipeline_depth == 1
    rate = limits.copy_bytes_per_s
    if in_turn:
        copies_s = (h2d + d2h) / rate
    else:
        copies_s = max(h2d / rate, d2h / rate, (h2d + d2h) / limits.both_bytes_per_s)
    host_s = BATCH_S + operations * OPERATION_S
    compute_s = flop / limits.flop_per_s
    parts = {"link": copies_s, "host": host_s, "compute": compute_s}
    # While the device computes, the host submits what follows, also with one batch in flight.
    batch_s = copies_s + max(host_s, compute_s) if in_turn else max(parts.values())
    bound = max(parts, key=lambda name: parts[name])
    return Prediction(h2d, d2h, flop, operations, copies_s, host_s, compute_s, batch_s, bound)


def count_operations(run: RunSpec) -> int:
    """Operations that the host submits for one forward pass; 0 for a no-op, 1 for a CUDA graph."""
    test, depth = run.test, run.vit.sizes()["depth"]
    if depth == 0:
        return 0
    on_gpu = run.device.kind == "cuda"
    graphs = test.compile_model and test.compile_mode in GRAPH_MODES
    if on_gpu and (test.cuda_graph or graphs):
        return 1
    if test.compile_model:
        return _COMPILED_BESIDE + _COMPILED_PER_BLOCK * depth
    saved = _SDPA_SAVES if test.attention == "sdpa" else 0
    return _BESIDE_BLOCKS + (_PER_BLOCK - saved) * depth


def find_limits(run: RunSpec, topology: Topology) -> DeviceLimits:
    """The limits of the device of a run: its GPU, or the CPUs that it is bound to."""
    gpu = _find_gpu(run.device, topology)
    if gpu is not None:
        return find_gpu_limits(gpu, run.test.precision)
    everything = sum(len(node.cpus) for node in topology.nodes)
    cpus = run.test.cpu_threads or len(run.placement.cpus) or everything
    return find_cpu_limits(cpus, run.test.precision)


def predict_models(cells: Sequence[RunSpec], topology: Topology) -> tuple[ModelPrediction, ...]:
    """One prediction per model, settings and kind of device, in the order of the cells."""
    found: dict[object, ModelPrediction] = {}
    for cell in cells:
        if is_predictable(cell):
            limits = find_limits(cell, topology)
            key = (limits, cell.vit, cell.test)
            if key not in found:
                found[key] = ModelPrediction(cell, limits, predict_run(cell, limits))
    return tuple(found.values())


def add_expectations(cells: Sequence[RunSpec], topology: Topology) -> list[RunSpec]:
    """The cells, with what is expected of those that are predictable."""
    return [
        replace(cell, expected=_expect(cell, topology)) if is_predictable(cell) else cell
        for cell in cells
    ]


def _expect(cell: RunSpec, topology: Topology) -> Expectation:
    prediction = predict_run(cell, find_limits(cell, topology))
    return Expectation(prediction.bound, prediction.batch_s)


def _find_gpu(device: DeviceSpec, topology: Topology) -> Gpu | None:
    if device.kind != "cuda":
        return None
    return next((gpu for gpu in topology.gpus if gpu.index == device.gpu_id), None)
