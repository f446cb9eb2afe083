"""A simulated machine whose first GPU falls off the bus in the middle of a run.

NUMA_BENCH_BACKEND names `backend`; GPU_LOSS names a directory: with a file `arm` in it the GPU is
lost during the run whose id contains that file's text, which makes the file `lost`. While `lost` is
there NVML and CUDA know the GPU no more; without it, it is back, as after a reset.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from numa_bench.machine.backend import Backend
from tests.fake_gpu_state import GpuState
from tests.fake_sysfs import NvmlError
from tests.simulation import machine

BACKEND = f"{__name__}:backend"
VARIABLE = "GPU_LOSS"
#: Copies of a run before the GPU is lost: in its timed window, or in its warm-up.
COPIES = 40


class LosingNvml(machine.MachineNvml):
    """NVML, which says of a lost GPU what the real one says."""

    def _answer(self, value: Any) -> Any:
        if lost_file().exists():
            raise NvmlError("GPU is lost")
        return super()._answer(value)


def lost_file() -> Path:
    return Path(os.environ[VARIABLE], "lost")


def backend() -> Backend:
    simulated, _ = machine.read_machine()
    usual = machine.backend()
    lost = [0] if lost_file().exists() else []
    nvml = LosingNvml(GpuState(), simulated.fake_gpus(), lost=lost)
    return replace(usual, nvml=nvml, cuda_runtime=lambda: make_runtime(usual))


def make_runtime(usual: Backend) -> Any:
    assert usual.cuda_runtime is not None
    if lost_file().exists():
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")
    runtime = usual.cuda_runtime()
    arm = Path(os.environ[VARIABLE], "arm")
    if arm.exists() and arm.read_text() in machine._run_name():
        lose_later(runtime)
    return runtime


def lose_later(runtime: Any) -> None:
    copy, count = runtime.copy, 0

    def copy_or_fail(target: Any, source: Any) -> None:
        nonlocal count
        count += 1
        if count >= COPIES:
            lost_file().touch()
            raise RuntimeError("CUDA error: unspecified launch failure")
        copy(target, source)

    runtime.copy = copy_or_fail
