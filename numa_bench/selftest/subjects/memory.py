"""Where host buffers are, page by page, and whether CUDA copies from them without staging."""

from __future__ import annotations

import torch

from numa_bench.errors import MachineError
from numa_bench.machine.page_placement import LEAST_FRACTION, judge_placement, observe_placement
from numa_bench.selftest.checks import Check, Figure, Limit, Waived
from numa_bench.selftest.context import Context
from numa_bench.selftest.workbench import WrongOutputError
from numa_bench.worker.buffers import HostBuffer


def locate_buffer(context: Context) -> Figure | Waived:
    """Pages of an ordinary buffer on the bound node."""
    return _locate(context, HostBuffer((context.copy_bytes,), torch.uint8))


def locate_registered(context: Context) -> Figure | Waived:
    """Pages of a registered buffer on the bound node, after copies in both directions."""
    cuda = context.require_cuda()
    runtime, shape = cuda.runtime, (context.copy_bytes // 4,)
    source = HostBuffer(shape, torch.float32, runtime, huge_pages=True)
    target = HostBuffer(shape, torch.float32, runtime, huge_pages=True)
    if cuda.tools is not None and not cuda.tools.is_pinned(source.tensor):
        raise MachineError("cudaHostRegister succeeded, but CUDA does not call the memory pinned")
    source.tensor.copy_(torch.arange(shape[0]))
    on_device = runtime.empty(shape, torch.float32)
    runtime.copy(on_device, source.tensor)
    runtime.copy(target.tensor, on_device)
    runtime.synchronize()
    if not torch.equal(source.tensor, target.tensor):
        raise WrongOutputError("what came back from the GPU is not what was copied there")
    return _locate(context, source)


def _locate(context: Context, buffer: HostBuffer) -> Figure | Waived:
    if not context.placement.memory_nodes:
        return Waived("memory is not bound, so it may be anywhere; see the check of binding")
    observed = observe_placement([(buffer.address, buffer.nbytes)])
    fraction, problem = judge_placement(context.placement, observed)
    if problem is not None or fraction is None:
        raise MachineError(problem or "the kernel does not say where the pages are")
    pages = ", ".join(f"{count:,} on node {node}" for node, count in observed["pages"].items())
    note = f"pages: {pages}, by {observed['method']}"
    return Figure(fraction, note, {name: observed[name] for name in ("pages", "method")})


CHECKS = (
    Check(
        "page location",
        "is every page of a buffer on the bound node?",
        "of pages",
        Limit(least=LEAST_FRACTION),
        locate_buffer,
    ),
    Check(
        "registered memory",
        "is registered memory pinned, intact, and every page of it on the bound node?",
        "of pages",
        Limit(least=LEAST_FRACTION),
        locate_registered,
        needs_gpu=True,
    ),
)
