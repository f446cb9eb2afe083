"""A machine that does not exist: sockets, nodes, GPUs and links, for any process of the product.

machine = dual_socket_8_gpus(remote_link=0.5)
environment = machine.install(tmp_path)         # sysfs tree, machine.json, a numactl
subprocess.run([...], env={**os.environ, **environment})

`backend` is what NUMA_BENCH_BACKEND names; in each process it reads the machine from the file that
SIMULATED_MACHINE names. GB is 1e9 bytes.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numa_bench.machine.backend import VARIABLE, Backend
from tests.fake_gpu_state import FakeGpuNvml, GpuState
from tests.fake_sysfs import GIB_KB, FakeGpu, FakeNode, build_tree
from tests.simulation import sharing
from tests.simulation.host_memory import MemoryModel
from tests.simulation.links import EVALUATE_FLOP, LinkModel, Links
from tests.simulation.numactl_shim import BINDING, MACHINE, cpus_in

if TYPE_CHECKING:
    from tests.simulation.planted_kernels import PlantedKernels
    from tests.simulation.timing import TimingRuntime

BACKEND = "tests.simulation.machine:backend"
_SHIM = Path(__file__).with_name("numactl_shim.py")
#: Distances of a server with several nodes per socket (ACPI SLIT): itself, socket, other socket.
_DISTANCES = (10, 12, 32)
_PAGE = 4096


@dataclass(frozen=True)
class SimulatedNode:
    """A NUMA node; `cpus` is a list such as "0-3". CPU i and CPU i + half of them share a core."""

    id: int
    socket: int
    cpus: str
    memory_gib: int = 64


@dataclass(frozen=True)
class SimulatedGpu:
    """A GPU at a PCI address, attached to a node. `remote_link`: as in LinkModel, for this GPU."""

    node: int
    address: str
    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    remote_link: float | None = None


@dataclass(frozen=True)
class SimulatedMachine:
    """The whole machine. `seed` makes its noise; each run gets noise of its own from it.

    Forward passes of more than `evaluate_flop` are not computed (`model_cost.ModelRunner`).
    """

    nodes: tuple[SimulatedNode, ...]
    gpus: tuple[SimulatedGpu, ...]
    link: LinkModel = LinkModel()
    seed: int = 0
    evaluate_flop: float = EVALUATE_FLOP
    memory: MemoryModel = MemoryModel()

    def socket(self, node_id: int) -> int:
        """The socket of a node. Raises KeyError."""
        return {node.id: node.socket for node in self.nodes}[node_id]

    def distance(self, one: int, other: int) -> int:
        """What the firmware says of two nodes."""
        own, socket, far = _DISTANCES
        if one == other:
            return own
        return socket if self.socket(one) == self.socket(other) else far

    def write_tree(self, root: Path) -> Path:
        """The machine's /sys and /proc below `root`."""
        nodes = [
            FakeNode(
                node.id,
                node.cpus,
                node.memory_gib * GIB_KB,
                node.memory_gib * GIB_KB * 3 // 4,
                [self.distance(node.id, other.id) for other in self.nodes],
                socket=node.socket,
                cores=_pair_cpus(cpus_in(node.cpus)),
            )
            for node in self.nodes
        ]
        return build_tree(root, nodes, self.fake_gpus())

    def fake_gpus(self) -> list[FakeGpu]:
        """The GPUs as PCI devices, in PCI order."""
        return [
            FakeGpu(gpu.address, numa_node=gpu.node, name=gpu.name, uuid=gpu.uuid)
            for gpu in self.gpus
        ]

    def nvml(self) -> MachineNvml:
        """A module in place of pynvml."""
        return MachineNvml(GpuState(link=(5, 16)), self.fake_gpus())

    def links(self, gpu: SimulatedGpu, cpu_node: int, memory_nodes: Sequence[int]) -> Links:
        """What a process bound there sees of its GPU."""
        link = self.link
        h2d = _mean_rate([self._link_factor(gpu, node) for node in memory_nodes])
        d2h = _mean_rate([self._link_factor(gpu, node, d2h=True) for node in memory_nodes])
        crosses = any(self.socket(node) != self.socket(gpu.node) for node in memory_nodes)
        total = min(link.duplex_gb_per_s, link.socket_gb_per_s if crosses else float("inf"))
        far = self.socket(cpu_node) != self.socket(gpu.node)
        host = link.remote_host if far else 1.0
        staging = any(self.socket(node) != self.socket(cpu_node) for node in memory_nodes)
        pageable = link.pageable_gb_per_s * (link.remote_link if staging else 1.0)
        return Links(
            h2d_bytes_per_s=min(link.h2d_gb_per_s * h2d, total) * 1e9,
            d2h_bytes_per_s=min(link.d2h_gb_per_s * d2h, total) * 1e9,
            both_bytes_per_s=total * 1e9,
            pageable_bytes_per_s=pageable * 1e9,
            latency_s=link.latency_us * 1e-6 * (link.remote_latency if crosses else 1.0),
            flop_per_s=link.tflop_per_s * 1e12,
            kernel_s=link.kernel_us * 1e-6,
            launch_s=link.launch_us * 1e-6 * host,
            submit_s=link.submit_us * 1e-6 * host,
            event_s=link.event_us * 1e-6 * host,
            host_work_s=link.host_work_us * 1e-6 * self._work_factor(cpu_node, memory_nodes),
            noise=link.noise,
            run_noise=link.run_noise,
        )

    def _work_factor(self, cpu_node: int, memory_nodes: Sequence[int]) -> float:
        """Host work on pages that alternate between the nodes."""
        own = self.socket(cpu_node)
        far = sum(self.socket(node) != own for node in memory_nodes) / len(memory_nodes)
        return 1 + far * (self.link.remote_work - 1)

    def _link_factor(self, gpu: SimulatedGpu, memory_node: int, *, d2h: bool = False) -> float:
        if gpu.node == memory_node:
            return 1.0
        if self.socket(gpu.node) == self.socket(memory_node):
            return self.link.same_socket_link
        if d2h and self.link.remote_d2h is not None:
            return self.link.remote_d2h
        return self.link.remote_link if gpu.remote_link is None else gpu.remote_link

    def install(self, directory: Path) -> dict[str, str]:
        """Write the machine into `directory`; return the variables that put it in place."""
        root = self.write_tree(directory / "root")
        description = {**asdict(self), "root": str(root)}
        path = directory / "machine.json"
        path.write_text(json.dumps(description))
        shim = directory / "bin" / "numactl"
        shim.parent.mkdir()
        # -I: nothing of the caller's PYTHONPATH; -S: it needs no site-packages and starts faster.
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{_SHIM}" "$@"\n')
        shim.chmod(0o755)
        return {
            VARIABLE: BACKEND,
            MACHINE: str(path),
            "PATH": f"{shim.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }


def _mean_rate(factors: Sequence[float]) -> float:
    """Pages alternate between the nodes, so times add up, not rates."""
    return len(factors) / sum(1 / f for f in factors)


class MachineNvml(FakeGpuNvml):
    """NVML of a simulated machine. As the real one it may be opened more than once at a time."""

    def _answer(self, value: Any) -> Any:
        self.open, opened = 1, self.open
        try:
            assert opened > 0, "asked outside of nvmlInit and nvmlShutdown"
            return super()._answer(value)
        finally:
            self.open = opened

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - NVML's names
        return "580.00.00"

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 13000


@dataclass(frozen=True)
class Binding:
    """What numactl was asked for. None and empty: nothing was."""

    cpus: tuple[int, ...] = ()
    cpu_node: int | None = None
    memory_nodes: tuple[int, ...] = ()
    policy: str | None = None


def current_binding() -> Binding:
    """The binding of this process, as the shim recorded it."""
    text = os.environ.get(BINDING)
    if text is None:
        return Binding()
    recorded = json.loads(text)
    return Binding(
        tuple(recorded["cpus"]),
        recorded["cpu_node"],
        tuple(recorded["memory_nodes"]),
        recorded["policy"],
    )


def read_machine() -> tuple[SimulatedMachine, Path]:
    """The machine that SIMULATED_MACHINE describes, and the root of its tree."""
    stored = json.loads(Path(os.environ[MACHINE]).read_text())
    machine = SimulatedMachine(
        nodes=tuple(SimulatedNode(**node) for node in stored["nodes"]),
        gpus=tuple(SimulatedGpu(**gpu) for gpu in stored["gpus"]),
        link=LinkModel(**stored["link"]),
        seed=stored["seed"],
        evaluate_flop=stored["evaluate_flop"],
        memory=MemoryModel(**stored["memory"]),
    )
    return machine, Path(stored["root"])


def backend() -> Backend:
    """The simulated machine, in any process that inherits its variables."""
    machine, root = read_machine()
    return Backend(
        root=root,
        nvml=machine.nvml(),
        cuda_runtime=lambda: make_runtime(machine),
        locate_pages=lambda buffers: locate_pages(machine, buffers),
        memory_kernels=lambda: make_kernels(machine),
        host_clock=sharing.current_clock,
        simulated="a simulated machine, its times are made up",
    )


def make_runtime(machine: SimulatedMachine) -> TimingRuntime:
    """The device that CUDA_VISIBLE_DEVICES names first, as this process's binding sees it.

    Raises RuntimeError when it names none, as torch does.
    """
    from tests.simulation.timing import TimingRuntime

    gpu = _visible_gpu(machine, os.environ.get("CUDA_VISIBLE_DEVICES"))
    binding = current_binding()
    cpu_node = _home_node(machine) if binding.cpu_node is None else binding.cpu_node
    links = machine.links(gpu, cpu_node, binding.memory_nodes or (cpu_node,))
    links = sharing.in_set(links, sharing.own_share(machine))
    return TimingRuntime(
        links,
        gpu.name,
        gpu.uuid,
        seed=f"{machine.seed}/{_run_name()}",
        evaluate_flop=machine.evaluate_flop,
    )


def make_kernels(machine: SimulatedMachine) -> PlantedKernels:
    """Memory kernels of this process: with its share in a set, else with the memory to itself."""
    if sharing.SET_VARIABLE in os.environ:
        return sharing.make_kernels(machine)
    binding = current_binding()
    cpus = _home_node(machine) if binding.cpu_node is None else binding.cpu_node
    return machine.memory.make_kernels(
        [
            machine.memory.factor(
                cpus, node, same_socket=machine.socket(cpus) == machine.socket(node)
            )
            for node in binding.memory_nodes or (cpus,)
        ]
    )


def locate_pages(machine: SimulatedMachine, buffers: Sequence[tuple[int, int]]) -> Counter[int]:
    """Pages by node, as a kernel that obeys the recorded binding would place them."""
    binding = current_binding()
    home = _home_node(machine) if binding.cpu_node is None else binding.cpu_node
    nodes = binding.memory_nodes or (home,)
    pages: Counter[int] = Counter()
    for address, nbytes in buffers:
        count = -(-(address % _PAGE + nbytes) // _PAGE)
        for place, node in enumerate(nodes):
            pages[node] += (count + len(nodes) - 1 - place) // len(nodes)
    return pages


def _pair_cpus(cpus: Sequence[int]) -> list[str]:
    """The CPU lists of the cores of a node, two CPUs each; a last CPU may be alone."""
    half = (len(cpus) + 1) // 2
    return [",".join(map(str, cpus[i::half])) for i in range(half)]


def _visible_gpu(machine: SimulatedMachine, variable: str | None) -> SimulatedGpu:
    first = "0" if variable is None else variable.split(",")[0].strip()
    for index, gpu in enumerate(machine.gpus):
        if first == str(index) or (first.startswith("GPU-") and gpu.uuid.startswith(first)):
            return gpu
    raise RuntimeError(f"the simulated machine has no GPU {first!r}")


def _home_node(machine: SimulatedMachine) -> int:
    """Where a process runs, and allocates, that nobody bound: always the first node."""
    return machine.nodes[0].id


def _run_name() -> str:
    """The run that this worker measures, so that each has noise of its own, the same every time."""
    if "--spec" not in sys.argv:
        return ""
    path = Path(sys.argv[sys.argv.index("--spec") + 1])
    # A worker of a set has a folder below that of the run.
    return path.parent.name if sharing.SET_VARIABLE not in os.environ else "/".join(path.parts[-3:])


def dual_socket_8_gpus(**link: float) -> SimulatedMachine:
    """Two sockets of two nodes, two GPUs on each node. `link` overrides fields of LinkModel."""
    return make_dual_socket(8, link)


def dual_socket_4_gpus(**link: float) -> SimulatedMachine:
    """Two sockets of two nodes, one GPU on each node. `link` overrides fields of LinkModel."""
    return make_dual_socket(4, link)


def make_dual_socket(gpus: int, link: Mapping[str, float], node_count: int = 4) -> SimulatedMachine:
    """Two sockets with half of the nodes and GPUs each. `link` overrides fields of LinkModel."""
    nodes = tuple(
        SimulatedNode(n, 2 * n // node_count, f"{4 * n}-{4 * n + 3}") for n in range(node_count)
    )
    return SimulatedMachine(
        nodes,
        tuple(
            SimulatedGpu(
                node=index * len(nodes) // gpus,
                address=f"0000:{0x1B + 0x10 * index:02x}:00.0",
                uuid=f"GPU-{index}a000000-0000-4000-8000-{index:012d}",
            )
            for index in range(gpus)
        ),
        LinkModel(**link),
    )
