"""What the user's process decides before anything is measured, as the bound process reads it.

Which GPU, which node, and what is known not to work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from numa_bench.config.schema import HardwareConfig
from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.allocation import select_granted_gpus
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import make_device_spec
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import DeviceSpec, JsonDict, Placement
from numa_bench.runner.gpu_check import check_gpus
from numa_bench.runner.numactl import check_binding

UNBOUND = Placement(None, (), "none", "unbound")


@dataclass(frozen=True)
class Session:
    """One selftest. `gpu_id` is the number of the GPU under test, one of `visible`, or None;
    `no_cuda` then says why. `gpu_problem`: a GPU that torch cannot use. `unbound`: why the process
    could not be bound; `placement` then binds nothing."""

    placement: Placement
    visible: tuple[Gpu, ...] = ()
    gpu_id: int | None = None
    no_cuda: str = "no GPU"
    gpu_problem: str | None = None
    unbound: str | None = None
    full: bool = False

    @property
    def device(self) -> DeviceSpec:
        """The device under test."""
        gpu = next((gpu for gpu in self.visible if gpu.index == self.gpu_id), None)
        return make_device_spec(gpu)

    def to_dict(self) -> JsonDict:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: JsonDict) -> Session:
        """The inverse of `to_dict`, also after a trip through JSON."""
        placement = dict(data["placement"])
        for name in ("memory_nodes", "cpus"):
            placement[name] = tuple(placement[name])
        visible = tuple(Gpu.from_dict(gpu) for gpu in data["visible"])
        return cls(**{**data, "placement": Placement(**placement), "visible": visible})


def plan_session(topology: Topology, wanted: str | None, *, full: bool) -> Session:
    """Choose GPU and node, and try both: one CUDA operation on every visible GPU, one binding.

    `wanted` is the number or UUID of the GPU to measure (None: the first that is visible). Raises
    ConfigError for a GPU that is not there, MachineError for a machine without a usable node.
    """
    visible = select_granted_gpus(topology, os.environ)[0]
    gpu = select_gpu(visible, wanted)
    gpu_problem = find_problem(lambda: check_gpus(map(make_device_spec, visible)))
    no_cuda, usable = explain_no_gpu(topology), gpu
    if gpu_problem is not None and gpu is not None:  # is it this one?
        device = make_device_spec(gpu)
        if find_problem(lambda: check_gpus([device])):
            no_cuda, usable = f"torch cannot use GPU {gpu.index}", None
    placement = choose_placement(topology, usable)
    unbound = find_problem(lambda: check_binding([placement]))
    return Session(
        placement if unbound is None else UNBOUND,
        visible,
        None if usable is None else usable.index,
        no_cuda,
        gpu_problem,
        unbound,
        full,
    )


def select_gpu(visible: Sequence[Gpu], wanted: str | None) -> Gpu | None:
    """The GPU with this number or UUID, of which a prefix is enough; None without any GPU.

    Raises ConfigError.
    """
    if wanted is None:
        return visible[0] if visible else None
    for gpu in visible:
        if wanted == str(gpu.index) or (
            wanted.startswith("GPU-") and (gpu.uuid or "").startswith(wanted)
        ):
            return gpu
    have = ", ".join(str(gpu.index) for gpu in visible) or "none"
    raise ConfigError("--gpu", wanted, f"no such GPU is visible; visible: {have}")


def choose_placement(topology: Topology, gpu: Gpu | None) -> Placement:
    """CPUs and memory of the GPU's node, as a study's `local`; of the first node with CPUs where
    the GPU's is unknown or there is no GPU. Raises MachineError without such a node."""
    if not topology.cpu_nodes:
        raise MachineError("no NUMA node has CPUs; `numa-bench topology` shows what was found")
    known = gpu is not None and (len(topology.nodes) == 1 or topology.node(gpu.numa_node))
    node = "local" if known else [topology.cpu_nodes[0]]
    hardware = HardwareConfig(numa_nodes=node, memory_nodes="same")
    return resolve_placements(hardware, topology, gpu)[0]


def find_problem(check: Callable[[], None]) -> str | None:
    """The message of the MachineError that `check` raises, or None."""
    try:
        check()
    except MachineError as error:
        return str(error)
    return None


def explain_no_gpu(topology: Topology) -> str:
    """Why there is no GPU to measure."""
    if topology.gpus:
        return "no GPU is visible: CUDA_VISIBLE_DEVICES hides all"
    return next((note for note in topology.notes if "no GPUs" in note), "no GPU")
