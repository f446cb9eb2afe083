"""Discover the machine: NUMA nodes with their CPUs, memory and distances, and each GPU's node.

Everything is read below a root directory (`sysfs.py`), which may be a tree captured on another
machine; only the live GPUs come from NVML. `topology_view.py` prints the result.

PCI files: Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.machine.nvml import (
    find_affinity_node,
    is_mig_enabled,
    read_compute_capability,
    read_max_link,
    read_memory_bytes,
)
from numa_bench.machine.sysfs import Tree, format_cpu_list, parse_cpu_list, read_nodes

__all__ = [
    "discover_topology",
    "format_cpu_list",
    "parse_cpu_list",
    "read_topology",
    "select_visible_gpus",
]

PCI = "sys/bus/pci/devices"

_PCI_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)

_T = TypeVar("_T")


def read_topology(root: Path) -> Topology:
    """The machine whose /sys and /proc are below `root`; its GPUs are its PCI display devices.

    `Gpu.index` counts in PCI order. `Gpu.numa_node` is the value of the kernel's file; -1 means
    that the kernel does not know. `notes` lists what the tree does not contain. Raises
    MachineError if there is no such tree, or it cannot be read or parsed.
    """
    tree = Tree(root)
    nodes, offline = read_nodes(tree)
    addresses = []
    for name in tree.list_names(PCI):
        # Class 0x03xxxx is "display controller": VGA (00), 3D (02) and the like.
        if (
            _PCI_ADDRESS.fullmatch(name)
            and (tree.read_text(f"{PCI}/{name}/class") or "")[:4] == "0x03"
        ):
            addresses.append((_pci_key(name), name))
    # Sorted as numbers, as nvidia-smi counts: as text, a domain of five digits sorts too early.
    gpus = (_with_sysfs(tree, Gpu(i, n, "", "", -1)) for i, (_, n) in enumerate(sorted(addresses)))
    source = "live" if root.resolve() == Path("/") else str(root)
    return Topology(nodes, tuple(gpus), offline, source, tuple(tree.notes))


def discover_topology(root: Path | None = None, nvml: Any | None = None) -> Topology:
    """This machine: nodes as in `read_topology`, GPUs as NVML counts them (PCI order, CUDA only).

    A GPU whose node the kernel does not know gets the node of NVML's affinity, with a note.

    `root` and `nvml` (the NVML module to use) default to those of the backend: / and pynvml, if
    installed. A missing module, library or driver means no GPUs and a note with the reason, never
    an exception. Raises MachineError as `read_topology` does.
    """
    backend = current_backend()
    tree = Tree(backend.root if root is None else root)
    nodes, offline = read_nodes(tree)
    gpus = []
    for gpu in _nvml_gpus(backend.nvml if nvml is None else nvml, nodes, tree.notes):
        gpus.append(_with_sysfs(tree, gpu))
        note = _explain_node(tree, gpu)
        if note is not None:
            tree.notes.append(note)
    return Topology(nodes, tuple(gpus), offline, "live", tuple(tree.notes))


def select_visible_gpus(topology: Topology, cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that a process with this CUDA_VISIBLE_DEVICES may use, in the order listed there.

    None (unset) means all. Entries are indices in PCI order (as CUDA counts them with
    CUDA_DEVICE_ORDER=PCI_BUS_ID) or "GPU-..." UUIDs, of which a unique prefix is enough. As in
    CUDA, the first entry that matches no GPU ends the list ("-1", "NoDevFiles", ""), and a
    repeated GPU empties it. MIG slices are not supported: "MIG-..." ends the list, and
    `plan.devices.refuse_mig_slices` refuses to plan with it.
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
            return ()  # as in torch.cuda._parse_visible_devices
        chosen.append(matches[0])
    return tuple(chosen)


def _pci_key(address: str) -> tuple[int, ...]:
    """Domain, bus, device and function as numbers, which sort in PCI order. Raises ValueError."""
    match = _PCI_ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is not a PCI address such as 0000:3b:00.0")
    return tuple(int(part, 16) for part in match.groups())


def _with_sysfs(tree: Tree, gpu: Gpu) -> Gpu:
    """The GPU with the fields that sysfs has for its PCI device; the others are unchanged."""
    base = f"{PCI}/{gpu.pci_address}"
    vendor, device = (tree.read_text(f"{base}/{name}") for name in ("vendor", "device"))
    # The kernel's file wins; NVML's affinity is for hosts where it does not name the node.
    node = _sysfs_node(tree, gpu)
    return replace(
        gpu,
        vendor=vendor or gpu.vendor or "unknown",
        device=device or gpu.device or "unknown",
        numa_node=node if node >= 0 else gpu.numa_node,
    )


def _sysfs_node(tree: Tree, gpu: Gpu) -> int:
    """The GPU's node in sysfs; -1 if the kernel does not know it, or without NUMA."""
    node = tree.read_numbers(f"{PCI}/{gpu.pci_address}/numa_node")
    return node[0] if node else -1


def _explain_node(tree: Tree, gpu: Gpu) -> str | None:
    """A note on where the node of a GPU comes from if it is not from the kernel.

    `gpu.numa_node` is that of NVML's affinity.
    """
    path = f"/{PCI}/{gpu.pci_address}"
    if _sysfs_node(tree, gpu) >= 0:
        return None
    hidden = not tree.is_dir(path[1:])
    if gpu.numa_node >= 0:
        why = f"{path} does not exist" if hidden else f"{path}/numa_node does not name it"
        return f"GPU {gpu.index}: NUMA node {gpu.numa_node} is from NVML's affinity ({why})"
    if hidden:
        return (
            f"GPU {gpu.index}: {path} does not exist, so its NUMA node is unknown (a container or "
            "WSL may hide it)"
        )
    return None


def _nvml_gpus(nvml: Any | None, nodes: Sequence[NumaNode], notes: list[str]) -> list[Gpu]:
    """The GPUs that NVML can describe, with the node of NVML's affinity, which is -1 if it names
    none; failures are added to `notes`."""
    module = _attempt(
        lambda: _start_nvml(nvml), "no GPUs: the NVIDIA driver's NVML does not start", notes
    )
    if module is None:
        return []
    try:
        count = _attempt(lambda: int(module.nvmlDeviceGetCount()), "no GPUs", notes)
        if count == 0:
            notes.append("no GPUs: NVML starts, but finds none")
        queried = [
            _attempt(
                functools.partial(_query_gpu, module, index, nodes), f"GPU {index} left out", notes
            )
            for index in range(count or 0)
        ]
        return [gpu for gpu in queried if gpu is not None]
    finally:
        with contextlib.suppress(Exception):
            module.nvmlShutdown()


def _attempt(call: Callable[[], _T], what: str, notes: list[str]) -> _T | None:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a broken driver must not stop a study on the CPU
        notes.append(f"{what} ({type(error).__name__}: {error})")
        return None


def _start_nvml(nvml: Any | None) -> Any:
    module = importlib.import_module("pynvml") if nvml is None else nvml
    module.nvmlInit()
    return module


def _query_gpu(nvml: Any, index: int, nodes: Sequence[NumaNode]) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    pci = nvml.nvmlDeviceGetPciInfo(handle)
    # NVML writes the domain as eight upper-case digits, sysfs (pci_setup_device) as at least four.
    domain, bus, slot, function = _pci_key(_str(pci.busId))
    address = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    ids = pci.pciDeviceId  # device in the upper 16 bits, vendor in the lower: nvml.h
    vendor, device = f"0x{ids & 0xFFFF:04x}", f"0x{ids >> 16:04x}"
    near = find_affinity_node(nvml, handle, nodes)
    return Gpu(
        index,
        address,
        vendor,
        device,
        -1 if near is None else near,
        _str(name),
        _str(uuid),
        is_mig_enabled(nvml, handle),
        read_compute_capability(nvml, handle),
        read_max_link(nvml, handle),
        read_memory_bytes(nvml, handle),
    )


def _str(value: str | bytes) -> str:
    """Text from NVML: older pynvml returns bytes, newer returns str."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
