"""What checks measure with: the machine, the placement of this process, its GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.errors import describe_exception
from numa_bench.machine.backend import Backend
from numa_bench.machine.model import Gpu, Topology
from numa_bench.machine.nvml import open_nvml
from numa_bench.machine.sensors import GpuSensors
from numa_bench.pcie import Link, make_link
from numa_bench.plan.devices import make_device_spec
from numa_bench.plan.resolve import resolve_test, resolve_vit
from numa_bench.records import Placement, RunSpec
from numa_bench.selftest.session import Session
from numa_bench.selftest.torch_tools import TorchTools
from numa_bench.worker.cuda_runtime import CudaRuntime
from numa_bench.worker.devices import Device
from numa_bench.worker.torch_cuda import TorchCuda

#: The models of conf/experiment/numa_study.yaml, which a test compares with this.
STUDY_MODELS = (
    ViTConfig(patch_size=32, depth=0),
    ViTConfig(patch_size=32, depth=2, dim=128),
    ViTConfig(patch_size=32, depth=4, dim=256),
    ViTConfig(patch_size=32, depth=6, dim=512),
    ViTConfig(patch_size=16, depth=8, dim=768),
    ViTConfig(patch_size=16, depth=12, dim=1024),
)
NO_OP = STUDY_MODELS[0]


@dataclass(frozen=True)
class Cuda:
    """The CUDA device under test. `tools` is None on a simulated device, `link` where NVML does
    not name it."""

    runtime: CudaRuntime
    gpu: Gpu
    link: Link | None = None
    tools: TorchTools | None = None


@dataclass(frozen=True)
class Context:
    """What a check gets.

    `placement` is where this process was bound, `unbound` why it is not (None: it is). `visible`
    are the GPUs that the user's process sees; `gpu_problem` is the first that torch cannot use and
    why. `no_cuda` says why `cuda` is None. The rest are sizes and durations, which tests make
    smaller: bytes of one raw copy, seconds of a timed window, pairs of a comparison (`slow_pairs`
    where a window takes seconds), the models, and settings of `experiment.test` that differ from
    their defaults.
    """

    topology: Topology
    placement: Placement
    cuda: Cuda | None = None
    no_cuda: str = "no GPU"
    visible: tuple[Gpu, ...] = ()
    gpu_problem: str | None = None
    unbound: str | None = None
    nvml: Any | None = None
    full: bool = False
    copy_bytes: int = 64_000_000
    window_s: float = 1.0
    pairs: int = 20
    slow_pairs: int = 6
    monitor_interval_s: float = ExperimentConfig().monitor_interval_s
    models: tuple[ViTConfig, ...] = STUDY_MODELS
    test_settings: dict[str, Any] = field(default_factory=dict)

    def require_cuda(self) -> Cuda:
        """The CUDA device. Raises RuntimeError without one."""
        if self.cuda is None:
            raise RuntimeError(self.no_cuda)
        return self.cuda

    def make_device(self) -> Device:
        """The device under test, as the worker knows it: the GPU, else the CPU."""
        if self.cuda is None:
            return Device(torch.device("cpu"))
        return Device(self.cuda.runtime.device, self.cuda.runtime, self.cuda.gpu.name)

    def make_spec(self, vit: ViTConfig, **settings: Any) -> RunSpec:
        """The spec of one model under the defaults of a study, on the device under test.

        `settings` are those of `experiment.test`.
        """
        gpu = self.cuda.gpu if self.cuda else None
        test = TestConfig(**{**self.test_settings, **settings})
        return RunSpec(
            study="selftest",
            run_id="selftest",
            repeat=0,
            vit=resolve_vit(vit),
            test=resolve_test(
                test,
                self.topology,
                gpu=gpu is not None,
                capability=gpu.compute_capability if gpu else None,
            ),
            device=make_device_spec(gpu),
            placement=self.placement,
        )


def make_context(session: Session, topology: Topology, backend: Backend) -> Context:
    """Open the device of this process, which sees the session's GPU alone (None: no GPU)."""
    allowed = len(os.sched_getaffinity(0))
    gpu = next((gpu for gpu in session.visible if gpu.index == session.gpu_id), None)
    # Threads of torch wait for each other: on the CPU, one that loses its CPU to another program
    # would delay all, so one CPU is left to such programs.
    torch.set_num_threads(allowed if gpu is not None else max(1, allowed - 1))
    cuda, no_cuda = None, session.no_cuda
    if gpu is not None:
        try:
            runtime: CudaRuntime = (backend.cuda_runtime or TorchCuda)()
            tools = TorchTools() if runtime.device.type == "cuda" else None
            cuda = Cuda(runtime, gpu, read_link(gpu, backend.nvml), tools)
        except Exception as error:  # noqa: BLE001 - torch raises many kinds; a check reports it
            no_cuda = f"the GPU cannot be used: {describe_exception(error)}"
    return Context(
        topology,
        session.placement,
        cuda,
        no_cuda,
        visible=session.visible,
        gpu_problem=session.gpu_problem or (no_cuda if gpu is not None and cuda is None else None),
        unbound=session.unbound,
        nvml=backend.nvml,
        full=session.full,
    )


def read_link(gpu: Gpu, nvml: Any | None) -> Link | None:
    """The widest and fastest link that GPU and slot agree on, or None where NVML has no answer."""
    if gpu.uuid is None:
        return None
    with open_nvml(nvml) as module:
        reading = GpuSensors(module, gpu.uuid, set).read()
    generation = reading.get("pcie_max_generation", 0)
    return make_link(generation, reading.get("pcie_max_width", 0), "NVML")
