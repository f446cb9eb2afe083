"""Read files of /sys and /proc below a root directory, and the NUMA nodes they describe.

With the root as an argument, the same code reads this machine and a tree captured on another.

The formats are described in the kernel's Documentation: ABI/stable/sysfs-devices-node (nodes),
ABI/testing/sysfs-devices-system-cpu and admin-guide/cputopology.rst (CPUs, caches),
filesystems/proc.rst (meminfo).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import MachineError
from numa_bench.machine.model import NumaNode
from numa_bench.machine.tree import Tree
from numa_bench.records.cpu_lists import format_cpu_list, parse_cpu_list

__all__ = ["Tree", "format_cpu_list", "parse_cpu_list", "read_kernel_setting", "read_nodes"]

NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"


def read_kernel_setting(path: Path) -> str | None:
    """A kernel setting, or None if it is missing; `always [madvise] never` is read as "madvise"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text


def read_nodes(tree: Tree) -> tuple[tuple[NumaNode, ...], tuple[int, ...]]:
    """The online nodes, and the CPUs that are present but not online.

    A line is added to `tree.notes` for everything that is missing. Raises MachineError if there
    is no such tree, or it cannot be read or parsed.
    """
    if not tree.is_dir("sys"):
        raise MachineError(
            f"{tree.root} has no sys/ directory: use the directory that contains sys/ and proc/ "
            "(an unpacked capture, or / for this machine)"
        )
    online = _online_cpus(tree)
    node_names = [name for name in tree.list_names(NODES) if re.fullmatch(r"node[0-9]{1,5}", name)]
    if node_names:
        ids = tree.read_id_list(f"{NODES}/online")
        if ids is None:
            ids = tuple(sorted(int(name[4:]) for name in node_names))
            tree.notes.append(f"/{NODES}/online is missing: every node directory counts as online")
        if not ids:
            raise tree.make_malformed_error(f"{NODES}/online", "", "a list such as 0-3,8")
        nodes = tuple(_read_node(tree, node, ids, online) for node in ids)
    else:
        nodes = (_only_node(tree, online),)
    present = tree.read_id_list(f"{CPUS}/present") or ()
    offline = tuple(cpu for cpu in present if online is not None and cpu not in online)
    return nodes, offline


def _online_cpus(tree: Tree) -> frozenset[int] | None:
    """The online CPUs, or None if the tree does not list them."""
    listed = tree.read_id_list(f"{CPUS}/online")
    if listed is not None:
        if not listed:
            raise tree.make_malformed_error(f"{CPUS}/online", "", "a list such as 0-3,8")
        return frozenset(listed)
    names = [name for name in tree.list_names(CPUS) if re.fullmatch(r"cpu[0-9]{1,5}", name)]
    tree.notes.append(
        f"/{CPUS}/online is missing: every CPU that is not marked offline counts as online"
    )
    # A CPU that cannot be taken offline has no `online` file (cpu0 on x86).
    on = frozenset(int(n[3:]) for n in names if tree.read_text(f"{CPUS}/{n}/online") != "0")
    return on or None


def _read_node(
    tree: Tree, node: int, ids: tuple[int, ...], online: frozenset[int] | None
) -> NumaNode:
    base = f"{NODES}/node{node}"
    if not tree.is_dir(base):
        raise MachineError(
            f"{tree.root / base} does not exist, but {NODES}/online lists node {node}: "
            "the tree is incomplete; capture it again or give another root"
        )
    cpus = tree.read_id_list(f"{base}/cpulist")
    if cpus is None:
        tree.notes.append(f"/{base}/cpulist is missing: node {node} counts as having no CPUs")
    usable = tuple(cpu for cpu in cpus or () if online is None or cpu in online)
    row = tree.read_numbers(f"{base}/distance")
    if row is None:
        tree.notes.append(f"/{base}/distance is missing: node {node}'s distances are unknown")
    elif len(row) != len(ids):  # the kernel writes one number per online node, in the same order
        raise tree.make_malformed_error(
            f"{base}/distance", str(row), f"one distance for each node of {ids}"
        )
    total, free = _memory(tree, f"{base}/meminfo")
    distances = dict(zip(ids, row, strict=True)) if row else {}
    return _make_node(tree, node, usable, total, free, distances, _socket(tree, usable))


def _only_node(tree: Tree, online: frozenset[int] | None) -> NumaNode:
    """Node 0 of a kernel without NUMA support: all CPUs and all memory."""
    if not online:
        raise MachineError(
            f"{tree.root} has no NUMA nodes and no CPUs below sys/devices/system: "
            "use the root of a complete capture, or / for this machine"
        )
    tree.notes.append("the kernel reports no NUMA nodes: the whole machine counts as node 0")
    total, free = _memory(tree, "proc/meminfo")
    cpus = tuple(sorted(online))
    return _make_node(tree, 0, cpus, total, free, {0: 10}, None)


def _make_node(
    tree: Tree,
    node: int,
    cpus: tuple[int, ...],
    total: int,
    free: int | None,
    distances: dict[int, int],
    socket: int | None,
) -> NumaNode:
    """A node with what is known of the caches and cores of its CPUs."""
    caches = _last_level_caches(tree, cpus)
    level_3 = caches is not None and {cache.level for cache in caches} == {3}
    return NumaNode(
        id=node,
        cpus=cpus,
        memory_bytes=total,
        distances=distances,
        memory_free_bytes=free,
        llc_bytes=sum(cache.nbytes for cache in caches) or None if caches else None,
        socket=socket,
        cores=_cores(tree, cpus),
        l3_domains=tuple(cache.cpus for cache in caches) if caches and level_3 else (),
        packages=_packages(tree, cpus),
    )


def _memory(tree: Tree, path: str) -> tuple[int, int | None]:
    """Total and free bytes. A node's lines start with "Node 0 ", those in /proc do not."""
    text = tree.read_text(path)
    if text is None:
        tree.notes.append(f"/{path} is missing: memory is unknown and counts as none")
        return 0, None
    total, free = (
        re.search(rf"^(?:Node +[0-9]+ +)?{key}: +([0-9]{{1,15}}) kB *$", text, re.MULTILINE)
        for key in ("MemTotal", "MemFree")
    )
    if total is None:
        raise tree.make_malformed_error(path, text, 'a line "MemTotal: N kB"')
    # The kernel's "kB" are 1024 bytes.
    return int(total[1]) * 1024, int(free[1]) * 1024 if free else None


@dataclass(frozen=True)
class _Cache:
    """A last-level cache: its level, its size, and which CPUs of a node share it."""

    level: int
    nbytes: int
    cpus: tuple[int, ...]


def _last_level_caches(tree: Tree, cpus: tuple[int, ...]) -> list[_Cache] | None:
    """The last-level caches of these CPUs, by their first CPU; None if any is unknown.

    A cache that two nodes share (sub-NUMA clustering) is listed with its full size for each.
    """
    caches: list[_Cache] = []
    counted: set[int] = set()  # CPUs whose cache is already listed; saves thousands of reads
    for cpu in cpus:
        if cpu in counted:
            continue
        base, levels = f"{CPUS}/cpu{cpu}/cache", {}
        for name in tree.list_names(base):
            level = tree.read_text(f"{base}/{name}/level") or ""
            # Instruction caches hold no batches.
            if tree.read_text(f"{base}/{name}/type") in ("Data", "Unified") and level.isdigit():
                levels[int(level)] = name
        if not levels:
            return None
        last = f"{base}/{levels[max(levels)]}"
        # The kernel always writes K (drivers/base/cacheinfo.c).
        size = re.fullmatch(r"([0-9]{1,12})K", tree.read_text(f"{last}/size") or "")
        sharers = tree.read_id_list(f"{last}/shared_cpu_list")
        if size is None or sharers is None:
            return None
        own = tuple(sorted(set(cpus) & {cpu, *sharers}))
        caches.append(_Cache(max(levels), int(size[1]) * 1024, own))
        counted.update(sharers)
    return caches


def _cores(tree: Tree, cpus: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The CPUs of each core, by its first CPU; empty if the siblings of any CPU are unknown."""
    cores: list[tuple[int, ...]] = []
    counted: set[int] = set()
    for cpu in cpus:
        if cpu in counted:
            continue
        siblings = tree.read_id_list(f"{CPUS}/cpu{cpu}/topology/thread_siblings_list")
        if siblings is None:
            return ()
        cores.append(tuple(sorted(set(cpus) & {cpu, *siblings})))
        counted.update(siblings)
    return tuple(cores)


def _socket(tree: Tree, cpus: tuple[int, ...]) -> int | None:
    """The package of a node's CPUs; None without CPUs, or where the kernel does not know (-1)."""
    return _package(tree, cpus[0]) if cpus else None


def _packages(tree: Tree, cpus: tuple[int, ...]) -> tuple[int, ...]:
    """All packages of a node's CPUs; empty if one is unknown."""
    found = {_package(tree, cpu) for cpu in cpus}
    known = {package for package in found if package is not None}
    return tuple(sorted(known)) if known == found else ()


def _package(tree: Tree, cpu: int) -> int | None:
    text = tree.read_text(f"{CPUS}/cpu{cpu}/topology/physical_package_id")
    return int(text) if text is not None and text.isdigit() else None
