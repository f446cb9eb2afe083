"""The device of a run: threads set, the right GPU, and what it cannot do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from numa_bench.machine.backend import current_backend
from numa_bench.records import RunSpec
from numa_bench.worker.cuda_runtime import CudaRuntime
from numa_bench.worker.torch_cuda import TorchCuda


class Waived(Exception):  # noqa: N818 - a verdict, not an error
    """The machine cannot do what the spec asks for; the message says why."""


@dataclass(frozen=True)
class Device:
    """Where the model runs. `runtime` is None on the CPU; `gpu_name` is the device's own name."""

    device: torch.device
    runtime: CudaRuntime | None = None
    gpu_name: str | None = None
    warnings: tuple[str, ...] = ()

    def make_forward(
        self, model: Callable[[torch.Tensor], torch.Tensor]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """A plain forward pass from a host batch to a host output, for the output check."""
        runtime = self.runtime
        if runtime is None:
            # A model may compute in place, and the pool must stay as it is.
            return lambda batch: model(batch.clone())
        return lambda batch: runtime.to_host(runtime.call_model(model, runtime.to_device(batch)))


def find_simulation_warnings() -> tuple[str, ...]:
    """A warning for the record where the figures are not those of real hardware."""
    simulated = current_backend().simulated
    return (f"simulated: {simulated}",) if simulated else ()


def prepare_device(spec: RunSpec) -> Device:
    """Set the number of threads and find the device of a run.

    Raises Waived when the device cannot do what the spec asks for, RuntimeError when it is not
    there.
    """
    # The CPUs that numactl left to this process, not those of the machine.
    allowed = len(os.sched_getaffinity(0))
    threads = spec.test.cpu_threads or allowed
    torch.set_num_threads(threads)
    # "high" permits TF32 in fp32 matrix products, "highest" forbids it.
    torch.set_float32_matmul_precision("high" if spec.test.precision == "tf32" else "highest")
    backend = current_backend()
    warnings = find_simulation_warnings()
    if threads > allowed:
        warnings += (f"threads: {threads} on {allowed} CPUs, they take turns",)
    if spec.device.kind == "cpu":
        if spec.test.precision == "tf32":
            raise Waived("tf32 is a GPU format; use precision=fp32 on the CPU")
        if spec.test.cuda_graph:
            raise Waived("cuda_graph needs a GPU")
        if spec.test.host_memory == "pinned":
            raise Waived("host_memory=pinned needs a GPU; use host_memory=registered on the CPU")
        return Device(torch.device("cpu"), warnings=warnings)
    runtime: CudaRuntime = (backend.cuda_runtime or TorchCuda)()
    found = runtime.properties()
    # NVML chose the GPU and CUDA opened it; both must mean the same one.
    if spec.device.gpu_uuid not in (None, found.uuid):
        raise RuntimeError(f"asked for GPU {spec.device.gpu_uuid}, torch sees {found.uuid}")
    # Ampere (8.0) is the first architecture with TF32 and bf16 tensor cores.
    if spec.test.precision in ("tf32", "bf16") and found.capability < (8, 0):
        major, minor = found.capability
        raise Waived(f"{spec.test.precision} needs compute capability 8.0, this is {major}.{minor}")
    return Device(runtime.device, runtime, found.name, warnings)
