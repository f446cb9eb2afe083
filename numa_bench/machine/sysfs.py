"""Read files of /sys and /proc below a root directory, and the NUMA nodes they describe.

With the root as an argument, the same code reads this machine and a tree captured on another.

The formats are described in the kernel's Documentation: ABI/stable/sysfs-devices-node (nodes),
ABI/testing/sysfs-devices-system-cpu and admin-guide/cputopology.rst (CPUs, caches),
filesystems/proc.rst (meminfo).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from numa_bench.errors import MachineError
from numa_bench.machine.model import NumaNode

NODES = "sys/devices/system/node"
CPUS = "sys/devices/system/cpu"

#: Linux supports at most 8192 CPUs; a damaged "0-9999999999" must not exhaust memory.
_MAX_ID = 1 << 16


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The numbers in a kernel list such as "0-3,8,10-11", sorted and unique; "" gives ().

    The format is that of `cpulist` and `online` files (admin-guide/cputopology.rst). Raises
    ValueError for anything else.
    """
    numbers: set[int] = set()
    for item in text.strip().split(",") if text.strip() else ():
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", item.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MAX_ID:
            raise ValueError(f"{item[:40]!r} is not a number or a range such as 0-3")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The inverse of `parse_cpu_list`: (0, 1, 2, 8) gives "0-2,8", which numactl accepts."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@dataclass
class Tree:
    """The files below a root, and notes on those that are missing.

    A missing file is read as None, because kernels differ in what they provide. A file that cannot
    be read or parsed raises MachineError, because numbers derived from it would be guesses.
    """

    root: Path
    notes: list[str] = field(default_factory=list)

    def read_text(self, path: str) -> str | None:
        try:
            raw = (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error
        # Captures made by reading whole pages end in NUL bytes.
        return raw.decode("ascii", errors="replace").strip(" \t\n\0")

    def list_names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unreadable(path, error) from error

    def is_dir(self, path: str) -> bool:
        try:
            return (self.root / path).is_dir()
        except OSError as error:  # no permission to search a parent; a missing path is not an error
            raise self._unreadable(path, error) from error

    def read_id_list(self, path: str) -> tuple[int, ...] | None:
        text = self.read_text(path)
        try:
            return None if text is None else parse_cpu_list(text)
        except ValueError as error:
            raise self.make_malformed_error(path, text, "a list such as 0-3,8") from error

    def read_numbers(self, path: str) -> list[int] | None:
        text = self.read_text(path)
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,9}(\s+-?[0-9]{1,9})*", text):
            raise self.make_malformed_error(path, text, "numbers")
        return [int(word) for word in text.split()]

    def make_malformed_error(self, path: str, text: str | None, wanted: str) -> MachineError:
        return MachineError(
            f"{self.root / path} contains {(text or '')[:40]!r} instead of {wanted}: "
            "the tree is damaged; capture it again or give another root"
        )

    def _unreadable(self, path: str, error: OSError) -> MachineError:
        return MachineError(
            f"{self.root / path} cannot be read ({error.strerror}): "
            "check its permissions or give another root"
        )


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
    return NumaNode(
        node, usable, total, distances, free, _llc_bytes(tree, usable), _socket(tree, usable)
    )


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
    return NumaNode(0, cpus, total, {0: 10}, free, _llc_bytes(tree, cpus), None)


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


def _llc_bytes(tree: Tree, cpus: tuple[int, ...]) -> int | None:
    """Total size in bytes of the last-level caches of these CPUs; None if any is unknown.

    A cache that two nodes share (sub-NUMA clustering) counts in full for each of them.
    """
    total = 0
    counted: set[int] = set()  # CPUs whose cache is already in `total`; saves thousands of reads
    for cpu in cpus:
        if cpu in counted:
            continue
        base, levels = f"{CPUS}/cpu{cpu}/cache", {}
        for name in tree.list_names(base):
            level = tree.read_text(f"{base}/{name}/level") or ""
            # Instruction caches hold no batches.
            if tree.read_text(f"{base}/{name}/type") in ("Data", "Unified") and len(level) == 1:
                levels[level] = name
        if not levels:
            return None
        # Levels are single digits, so the greatest text is the last level.
        last = f"{base}/{levels[max(levels)]}"
        # The kernel always writes K (drivers/base/cacheinfo.c).
        size = re.fullmatch(r"([0-9]{1,12})K", tree.read_text(f"{last}/size") or "")
        sharers = tree.read_id_list(f"{last}/shared_cpu_list")
        if size is None or sharers is None:
            return None
        total += int(size[1]) * 1024
        counted.update(sharers)
    return total or None


def _socket(tree: Tree, cpus: tuple[int, ...]) -> int | None:
    """The package of a node's CPUs; None without CPUs, or where the kernel does not know (-1)."""
    text = tree.read_text(f"{CPUS}/cpu{cpus[0]}/topology/physical_package_id") if cpus else None
    return int(text) if text is not None and text.isdigit() else None
