"""Do driver, torch and numactl work at all?"""

from __future__ import annotations

import torch

from numa_bench.errors import MachineError
from numa_bench.machine.page_placement import judge_placement, observe_placement
from numa_bench.selftest.checks import DRIVER_CHECK, Check, Figure, Limit, Waived
from numa_bench.selftest.context import Context
from numa_bench.worker.buffers import HostBuffer

#: Small integers, whose sums are exact in fp32.
_SIDE = 64


def check_torch(context: Context) -> Figure:  # noqa: ARG001 - a check gets its context
    """One multiplication of matrices of small integers, which fp32 holds exactly."""
    ones = torch.ones(_SIDE, _SIDE)
    error = float((ones @ ones - _SIDE).abs().max())
    return Figure(error, f"torch {torch.__version__}, {torch.get_num_threads()} threads")


def check_driver(context: Context) -> Figure | Waived:
    """The outcome of one CUDA operation on every GPU, which the starting process tried."""
    if context.gpu_problem is not None:
        raise MachineError(context.gpu_problem)
    if not context.visible:
        return Waived(context.no_cuda)
    names = sorted({gpu.name or gpu.pci_address for gpu in context.visible})
    note = f"{', '.join(names)}; torch built for CUDA {torch.version.cuda}"
    return Figure(len(context.visible), note, {"uuids": [gpu.uuid for gpu in context.visible]})


def check_binding(context: Context) -> Figure:
    """CPUs and memory policy of this process, by the kernel, against those that were asked for."""
    if context.unbound is not None:
        raise MachineError(context.unbound)
    touched = HostBuffer((1_000_000,), torch.uint8)
    observed = observe_placement([(touched.address, touched.nbytes)])
    _, problem = judge_placement(context.placement, observed)
    if problem is not None:
        raise MachineError(problem)
    allowed = observed["thread_cpus_allowed"] or ["unknown"]
    nodes = ",".join(map(str, observed["policy_nodes"]))
    note = f"CPUs {' and '.join(allowed)}, memory policy {observed['policy']}:{nodes}"
    return Figure(1.0, note, observed)


CHECKS = (
    Check(
        "torch",
        "does torch compute correctly on the CPU?",
        "error",
        Limit(0, 0),
        check_torch,
    ),
    Check(
        DRIVER_CHECK,
        "can torch use every visible GPU, and does it see the ones that NVML lists?",
        "GPUs",
        Limit(least=1),
        check_driver,
    ),
    Check(
        "binding",
        "are all threads and the memory policy on the node that numactl was given?",
        "",
        Limit(1, 1),
        check_binding,
    ),
)
