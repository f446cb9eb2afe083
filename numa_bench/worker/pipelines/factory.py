"""The pipeline of a run: buffers of the kind that it asks for, host work, stages on its device."""

from __future__ import annotations

import os

from numa_bench.records import NO_HOST_WORK, REGISTERED, RunSpec
from numa_bench.records.workload import input_shape
from numa_bench.worker.buffers import BatchRing, MemoryKind, SamplePool
from numa_bench.worker.cuda_runtime import CudaRuntime
from numa_bench.worker.devices import Device
from numa_bench.worker.host_stage.feeds import AheadFeed, HostFeed
from numa_bench.worker.host_stage.images import make_work
from numa_bench.worker.host_stage.lanes import HostThreads
from numa_bench.worker.models import DTYPES, Output, has_static_output, plan_output
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.graph_pipeline import GraphPipeline
from numa_bench.worker.pipelines.pipeline import CpuPipeline, Model, Pipeline


def make_pipeline(
    spec: RunSpec, model: Model, device: Device, output: Output | None = None
) -> Pipeline:
    """The pipeline of a spec on its device, buffers placed and registered.

    `output` is what the model returns; None: that of the spec's ViT. Raises Waived where this
    installation cannot do the host work of the spec.
    """
    test, runtime = spec.test, device.runtime
    output = output or plan_output(spec)
    memory = _choose_memory(spec, runtime)
    pool = _make_pool(spec, runtime, memory)
    outputs = BatchRing(
        output.shape,
        output.dtype,
        nbytes=test.memory_size_mb * 1_000_000,
        least=max(2, test.pipeline_depth),
        **memory._asdict(),
    )
    if runtime is None:
        return CpuPipeline(model, pool, outputs, test.pipeline_depth)
    if test.cuda_graph:
        return GraphPipeline(model, pool, outputs, test.pipeline_depth, runtime)
    return CudaPipeline(
        model,
        pool,
        outputs,
        test.pipeline_depth,
        runtime,
        static_output=has_static_output(spec),
        pageable=test.host_memory == "pageable",
    )


def count_host_threads(spec: RunSpec) -> int:
    """Threads of the host work of a spec in this process; 0 without host work."""
    if spec.test.host_work == NO_HOST_WORK:
        return 0
    # The CPUs that numactl left to this process. One is for the thread that submits.
    return spec.test.host_threads or max(1, len(os.sched_getaffinity(0)) - 1)


def _make_pool(spec: RunSpec, runtime: CudaRuntime | None, memory: MemoryKind) -> BatchRing:
    test = spec.test
    shape, dtype = input_shape(spec), DTYPES[test.precision]
    if test.host_work == NO_HOST_WORK:
        return SamplePool(
            shape,
            dtype,
            nbytes=test.memory_size_mb * 1_000_000,
            seed=test.seed,
            **memory._asdict(),
        )
    work = make_work(spec, HostThreads(count_host_threads(spec)))
    depth = test.pipeline_depth
    if runtime is None:
        return HostFeed(shape, dtype, work, depth=depth, memory=memory)
    return AheadFeed(shape, dtype, work, depth=depth, memory=memory, runtime=runtime)


def _choose_memory(spec: RunSpec, runtime: CudaRuntime | None) -> MemoryKind:
    if runtime is None:
        return MemoryKind()
    if spec.test.host_memory == "pinned":
        return MemoryKind(pinner=runtime)
    # The kernel interleaves whole huge pages, which would spread a small pool unevenly.
    huge_pages = spec.placement.policy != "interleave"
    registered = spec.test.host_memory == REGISTERED
    return MemoryKind(registrar=runtime if registered else None, huge_pages=huge_pages)
