"""What a machine is made of: NUMA nodes with their CPUs, memory and distances, and each GPU's node.

Everything is read below a root directory, which is an argument: `sysfs.py` does that. Only the
live GPUs come from NVML. As a program it prints what it found:

    python -m numa_bench.machine.topology [--json] [--root DIR]

PCI files: Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from numa_bench.errors import NumaBenchError
from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.machine.sysfs import Tree, format_cpu_list, parse_cpu_list, read_nodes

__all__ = ["format_cpu_list", "live_topology", "parse_cpu_list", "read_topology", "visible_gpus"]

PCI = "sys/bus/pci/devices"

_PCI_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)

_T = TypeVar("_T")


def read_topology(root: Path) -> Topology:
    """The machine whose /sys and /proc lie below `root`; its GPUs are its PCI display devices.

    `Gpu.index` counts in PCI order and `Gpu.numa_node` is the raw file (-1: the kernel does not
    know). What the tree does not tell is named in `notes`. Raises MachineError when there is no
    tree, or one that cannot be read or understood.
    """
    tree = Tree(root)
    nodes, offline = read_nodes(tree)
    found = []
    for name in tree.list_names(PCI):
        # Class 0x03xxxx is "display controller": VGA (00), 3D (02) and the like.
        if (
            _PCI_ADDRESS.fullmatch(name)
            and (tree.read_text(f"{PCI}/{name}/class") or "")[:4] == "0x03"
        ):
            found.append((_pci_key(name), name))
    gpus = (_with_sysfs(tree, Gpu(i, n, "", "", -1)) for i, (_, n) in enumerate(sorted(found)))
    source = "live" if root.resolve() == Path("/") else str(root)
    return Topology(nodes, tuple(gpus), offline, source, tuple(tree.notes))


def live_topology(root: Path | None = None, nvml: Any | None = None) -> Topology:
    """This machine: nodes as `read_topology`, GPUs as NVML counts them (PCI order, CUDA-capable).

    `root` and `nvml`, the module to ask, default to those of the backend (/ and pynvml). No module,
    library or driver means no GPUs and a note that says why, never an exception. Raises
    MachineError as `read_topology`.
    """
    backend = current_backend()
    tree = Tree(backend.root if root is None else root)
    nodes, offline = read_nodes(tree)
    gpus = []
    for gpu in _nvml_gpus(backend.nvml if nvml is None else nvml, tree.notes):
        gpus.append(_with_sysfs(tree, gpu))
        if not tree.is_dir(f"{PCI}/{gpu.pci_address}"):
            tree.notes.append(
                f"GPU {gpu.index}: /{PCI}/{gpu.pci_address} does not exist, so its NUMA node is "
                "unknown (a container or WSL may hide it)"
            )
    return Topology(nodes, tuple(gpus), offline, "live", tuple(tree.notes))


def visible_gpus(topology: Topology, cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that a process with this CUDA_VISIBLE_DEVICES may use, in the order given there.

    None (unset): all. Entries are indices in PCI order (what CUDA means when CUDA_DEVICE_ORDER is
    PCI_BUS_ID) or "GPU-..." UUIDs, of which a unique beginning is enough. As in CUDA, the first
    entry that names no GPU ends the list ("-1", "NoDevFiles", ""), and a GPU named twice makes
    the whole list empty. MIG slices are not GPUs here: "MIG-..." ends the list.
    """
    if cuda_visible_devices is None:
        return topology.gpus
    chosen: list[Gpu] = []
    for entry in (part.strip() for part in cuda_visible_devices.split(",")):
        if entry.startswith("GPU-"):
            matches = [gpu for gpu in topology.gpus if (gpu.uuid or "").startswith(entry)]
        else:
            is_index = re.fullmatch(r"[0-9]{1,9}", entry) is not None
            matches = [gpu for gpu in topology.gpus if is_index and gpu.index == int(entry)]
        if len(matches) != 1:
            break
        if matches[0] in chosen:
            return ()  # as torch.cuda._parse_visible_devices has it
        chosen.append(matches[0])
    return tuple(chosen)


def _pci_key(address: str) -> tuple[int, ...]:
    """Domain, bus, device and function as numbers, which sort as PCI does. Raises ValueError."""
    match = _PCI_ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is not a PCI address such as 0000:3b:00.0")
    return tuple(int(part, 16) for part in match.groups())


def _with_sysfs(tree: Tree, gpu: Gpu) -> Gpu:
    """The GPU with what sysfs says of its PCI device; what sysfs lacks stays as it was."""
    base = f"{PCI}/{gpu.pci_address}"
    vendor, device = (tree.read_text(f"{base}/{name}") for name in ("vendor", "device"))
    node = tree.read_numbers(f"{base}/numa_node")  # no such file: a kernel without NUMA
    return replace(
        gpu,
        vendor=vendor or gpu.vendor or "unknown",
        device=device or gpu.device or "unknown",
        numa_node=node[0] if node else -1,
    )


def _nvml_gpus(nvml: Any | None, notes: list[str]) -> list[Gpu]:
    """The GPUs that NVML can describe, node not yet known; `notes` says what it could not."""
    module = _attempt(
        lambda: _started(nvml), "no GPUs, as the NVIDIA driver's NVML does not start", notes
    )
    if module is None:
        return []
    try:
        count = _attempt(lambda: int(module.nvmlDeviceGetCount()), "no GPUs", notes)
        if count == 0:
            notes.append("no GPUs: NVML starts, but finds none")
        asked = [
            _attempt(functools.partial(_ask_gpu, module, index), f"GPU {index} left out", notes)
            for index in range(count or 0)
        ]
        return [gpu for gpu in asked if gpu is not None]
    finally:
        with contextlib.suppress(Exception):
            module.nvmlShutdown()


def _attempt(call: Callable[[], _T], what: str, notes: list[str]) -> _T | None:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a broken driver must not stop a study on the CPU
        notes.append(f"{what} ({type(error).__name__}: {error})")
        return None


def _started(nvml: Any | None) -> Any:
    module = importlib.import_module("pynvml") if nvml is None else nvml
    module.nvmlInit()
    return module


def _ask_gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    # NVML writes eight digits of domain in capitals, sysfs (pci_setup_device) at least four.
    domain, bus, slot, function = _pci_key(_str(pci.busId))
    address = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    ids = pci.pciDeviceId  # device in the upper 16 bits, vendor in the lower: nvml.h
    vendor, device = f"0x{ids & 0xFFFF:04x}", f"0x{ids >> 16:04x}"
    return Gpu(index, address, vendor, device, -1, _str(name), _str(uuid))


def _str(value: str | bytes) -> str:
    """NVML's text: older pynvml gives bytes, newer gives str."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _kind(node: NumaNode) -> str:
    if node.cpuless:
        return "empty" if node.memoryless else "memory-only"
    return "no memory" if node.memoryless else "CPUs+memory"


def _scaled(size: int | None, unit: float) -> str:
    return "?" if size is None else f"{size / unit:.1f}"


def _folded(cpus: Sequence[int]) -> str:
    """A CPU list on lines of bounded width, broken after commas: nodes may alternate CPU by CPU."""
    lines = textwrap.wrap(format_cpu_list(cpus).replace(",", ", "), 20)
    return "\n".join(line.replace(", ", ",") for line in lines) or "-"


def _node_row(node: NumaNode) -> tuple[str, ...]:
    return (
        str(node.id),
        _folded(node.cpus),
        str(len(node.cpus)),
        _scaled(node.memory_bytes, 1e9),
        _scaled(node.memory_free_bytes, 1e9),
        "-" if node.cpuless else _scaled(node.llc_bytes, 1e6),
        _kind(node),
    )


def _distance_row(node: NumaNode, nodes: Sequence[NumaNode]) -> tuple[str, ...]:
    return (str(node.id), *(str(node.distances.get(other.id, "?")) for other in nodes))


def _gpu_row(gpu: Gpu) -> tuple[str, ...]:
    node = "unknown" if gpu.numa_node < 0 else str(gpu.numa_node)
    return (str(gpu.index), gpu.name or "-", gpu.pci_address, gpu.vendor, gpu.device, node)


def _print_tables(topology: Topology) -> None:
    # Imported here: who asks for a topology, or for JSON, does not wait for rich.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # PCI addresses and notes are text, never markup or emoji.
    console = Console(markup=False, emoji=False, highlight=False)

    def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in columns:  # ">" in front: a column of numbers
            table.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
        for row in rows:
            table.add_row(*row)
        # rich cuts numbers short to fit 80 columns into a pipe; a long line is the lesser evil.
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
        console.print(title, soft_wrap=True)
        console.print(table)
        console.print()

    nodes, gpus = topology.nodes, topology.gpus
    columns = [">Node", "CPUs", ">Count", ">Memory GB", ">Free GB", ">LLC MB", "Kind"]
    show(f"NUMA nodes ({topology.source})", columns, map(_node_row, nodes))
    columns = [">Node", *(f">{node.id}" for node in nodes)]
    rows = [_distance_row(node, nodes) for node in nodes]
    show("Distances, from the node of the row (10: local)", columns, rows)
    if gpus:
        columns = [">GPU", "Name", "PCI address", "Vendor", "Device", "Node"]
        show("GPUs", columns, map(_gpu_row, gpus))
    else:
        console.print("GPUs: none")
    if topology.cpus_offline:
        console.print(f"CPUs offline: {format_cpu_list(topology.cpus_offline)}", soft_wrap=True)
    for note in topology.notes:
        console.print(f"note: {note}", soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit code: 0, or 2 when the tree cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m numa_bench.machine.topology",
        description="Show NUMA nodes, their CPUs, memory and distances, and each GPU's node.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (bytes, not GB)")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="read a captured tree that holds sys/ and proc/"
    )
    options = parser.parse_args(argv)
    try:
        topology = read_topology(options.root) if options.root is not None else live_topology()
    except NumaBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps(topology.to_dict(), indent=2))
    else:
        _print_tables(topology)
    return 0


if __name__ == "__main__":
    sys.exit(main())
