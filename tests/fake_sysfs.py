"""Makes machines for tests: a /sys and /proc of plain files, and a fake pynvml.

root = build_tree(tmp_path, nodes=[FakeNode(0, "0-3"), FakeNode(1, "4-7")],
                  gpus=[FakeGpu("0000:3b:00.0", numa_node=1)])
read_topology(root)
discover_topology(root, nvml=FakeNvml([FakeGpu("0000:3b:00.0")]))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

GIB_KB = 1024 * 1024

H100 = "0x2330"


def ids(cpu_list: str) -> list[int]:
    """The numbers in "0-3,8"; written apart from the code under test."""
    found: list[int] = []
    for item in filter(None, cpu_list.split(",")):
        first, _, last = item.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass(frozen=True)
class FakeNode:
    """A NUMA node. `distances` None: 10 to itself and 20 to the others. Memory 0: memory-less.

    `free_kb` None leaves MemFree out; `llc_kb` None leaves all caches out, else each of its CPUs
    has an L1 of its own and they share one L3, or those of each list of `l3` do. `socket` and
    `cores`, the CPU lists of its cores, are written where they are given.
    """

    id: int
    cpus: str = ""
    memory_kb: int = 16 * GIB_KB
    free_kb: int | None = 8 * GIB_KB
    distances: Sequence[int] | None = None
    llc_kb: int | None = 32 * 1024
    socket: int | None = None
    cores: Sequence[str] = ()
    l3: Sequence[str] = ()


@dataclass(frozen=True)
class FakeGpu:
    """A PCI device, by default an NVIDIA one. `numa_node` None leaves the file out."""

    address: str
    numa_node: int | None = -1
    vendor: str = "0x10de"
    device: str = H100
    pci_class: str = "0x030200"
    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"


def write(root: Path, path: str, text: str) -> None:
    """One file below `root`, with the newline that the kernel ends every file with."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")


def build_tree(
    root: Path,
    nodes: Sequence[FakeNode] | None,
    gpus: Sequence[FakeGpu] = (),
    online: str | None = None,
    present: str | None = None,
    meminfo_kb: int = 16 * GIB_KB,
) -> Path:
    """Writes the tree and gives `root` back.

    `nodes` None: a kernel without NUMA, with no node directory and `meminfo_kb` in /proc/meminfo.
    `online` and `present` are CPU lists; left out, all CPUs of the nodes. CPUs of a node that are
    not in `online` are still in its cpulist, to show that the reader drops them.
    """
    if online is None:
        online = ",".join(node.cpus for node in nodes or () if node.cpus) or "0"
    write(root, "sys/devices/system/cpu/online", online)
    write(root, "sys/devices/system/cpu/present", online if present is None else present)
    write(root, "sys/devices/system/cpu/possible", "0-1023")
    write(root, "proc/meminfo", f"MemTotal: {meminfo_kb} kB\nMemFree: {meminfo_kb // 2} kB")
    if nodes is not None:
        _write_nodes(root, nodes)
    for gpu in gpus:
        _write_pci(root, gpu)
    return root


def _write_nodes(root: Path, nodes: Sequence[FakeNode]) -> None:
    base = "sys/devices/system/node"
    write(root, f"{base}/online", ",".join(str(node.id) for node in nodes))
    write(root, f"{base}/possible", "0-31")
    for node in nodes:
        row = node.distances or [10 if other.id == node.id else 20 for other in nodes]
        lines = [f"Node {node.id} MemTotal:    {node.memory_kb} kB"]
        if node.free_kb is not None:
            lines.append(f"Node {node.id} MemFree:     {min(node.free_kb, node.memory_kb)} kB")
        write(root, f"{base}/node{node.id}/cpulist", node.cpus)
        write(root, f"{base}/node{node.id}/distance", " ".join(map(str, row)))
        write(root, f"{base}/node{node.id}/meminfo", "\n".join(lines))
        for cpu in ids(node.cpus):
            if node.llc_kb is not None:
                write_cache(root, cpu, 0, 1, "Data", 32, str(cpu))
                own = next((cpus for cpus in node.l3 if cpu in ids(cpus)), node.cpus)
                write_cache(root, cpu, 3, 3, "Unified", node.llc_kb, own)
            if node.socket is not None:
                path = f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"
                write(root, path, str(node.socket))
        for cpus in node.cores:
            for cpu in ids(cpus):
                path = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
                write(root, path, cpus)


def write_cache(
    root: Path, cpu: int, index: int, level: int, kind: str, size_kb: int, shared: str
) -> None:
    base = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
    values = {"level": level, "type": kind, "size": f"{size_kb}K", "shared_cpu_list": shared}
    for name, value in values.items():
        write(root, f"{base}/{name}", str(value))


def _write_pci(root: Path, gpu: FakeGpu) -> None:
    base = f"sys/bus/pci/devices/{gpu.address}"
    write(root, f"{base}/class", gpu.pci_class)
    write(root, f"{base}/vendor", gpu.vendor)
    write(root, f"{base}/device", gpu.device)
    if gpu.numa_node is not None:
        write(root, f"{base}/numa_node", str(gpu.numa_node))


def eight_gpus() -> list[FakeGpu]:
    """Eight GPUs in PCI order, four on each of two nodes, each with a name and UUID of its own."""
    buses = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
    return [
        FakeGpu(
            f"0000:{bus}:00.0",
            numa_node=index // 4,
            uuid=f"GPU-{index}a000000-0000-4000-8000-{index:012d}",
        )
        for index, bus in enumerate(buses)
    ]


def eight_gpu_server(root: Path) -> Path:
    """Two sockets of 48 cores with two threads each, 1 TiB a socket, eight GPUs."""
    nodes = [
        FakeNode(0, "0-47,96-143", 1024 * GIB_KB, 1000 * GIB_KB, (10, 21), 105 * 1024),
        FakeNode(1, "48-95,144-191", 1024 * GIB_KB, 1000 * GIB_KB, (21, 10), 105 * 1024),
    ]
    return build_tree(root, nodes, eight_gpus())


class NvmlError(Exception):
    """The fake's pynvml.NVMLError."""


class FakeNvml:
    """What `numa_bench` uses of the module pynvml, over a list of GPUs in PCI order.

    `as_bytes`: text comes as bytes, as from older versions. `init_error`: there is no driver.
    `lost`: indices whose handle cannot be had, as for a GPU that fell off the bus. `open` counts
    nvmlInit without its nvmlShutdown, and must be 0 afterwards.
    """

    NVMLError = NvmlError

    def __init__(
        self,
        gpus: Sequence[FakeGpu] = (),
        as_bytes: bool = False,
        init_error: str | None = None,
        lost: Sequence[int] = (),
    ) -> None:
        self.gpus = list(gpus)
        self.as_bytes = as_bytes
        self.init_error = init_error
        self.lost = set(lost)
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if self.init_error is not None:
            raise NvmlError(self.init_error)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        if index in self.lost:
            raise NvmlError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str | bytes:  # noqa: N802
        return self._text(handle.name)

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str | bytes:  # noqa: N802
        return self._text(handle.uuid)

    def nvmlDeviceGetPciInfo(self, handle: FakeGpu) -> SimpleNamespace:  # noqa: N802
        domain, rest = handle.address.split(":", 1)
        device_and_vendor = int(handle.device, 16) << 16 | int(handle.vendor, 16)
        bus_id = f"{int(domain, 16):08X}:{rest.upper()}"
        return SimpleNamespace(busId=self._text(bus_id), pciDeviceId=device_and_vendor)

    def _text(self, text: str) -> str | bytes:
        return text.encode() if self.as_bytes else text
