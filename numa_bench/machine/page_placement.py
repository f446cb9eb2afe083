"""Where this process really runs and where its pages really are, and the verdict against a spec.

Pages are asked for one by one with move_pages(2) in query mode (nodes == NULL), which answers
for exactly the buffer's addresses: a mapping in /proc/self/numa_maps may have been merged with
its neighbours. Where the call is forbidden (some containers), numa_maps is read instead, and the
method is recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from numa_bench.machine.backend import current_backend
from numa_bench.machine.sysfs import read_kernel_setting
from numa_bench.machine.topology import format_cpu_list, parse_cpu_list
from numa_bench.records import WHOLE_NODE, JsonDict, Placement

#: Least fraction of buffer pages on the requested node(s) for a valid run.
LEAST_FRACTION = 0.99
#: Largest departure of any node's share from an even spread under interleave.
INTERLEAVE_TOLERANCE = 0.05
#: System call numbers (Linux arch/*/entry/syscalls): move_pages and get_mempolicy.
_SYSCALLS = {"x86_64": (279, 239), "aarch64": (239, 236), "ppc64le": (301, 260)}
#: Modes of set_mempolicy(2), include/uapi/linux/mempolicy.h; flags live above bit 12.
_MODES = (
    "default",
    "prefer",
    "bind",
    "interleave",
    "local",
    "prefer (many)",
    "weighted interleave",
)
#: What get_mempolicy may say under each of our policies. Before Linux 5.14 local is a preference
#: for no node.
_EXPECTED_MODES = {
    "bind": ("bind",),
    "preferred": ("prefer", "prefer (many)"),
    "interleave": ("interleave",),
    "local": ("local", "prefer", "default"),
}
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
#: Pages in one call: bounds its two arrays to a megabyte.
_CHUNK = 65536
#: How often to look at pages that seem to be nowhere: the kernel may take them away again.
_LOOKS = 3


def observe_placement(buffers: Sequence[tuple[int, int]]) -> JsonDict:
    """What the kernel says of this process and of buffers given as (address, bytes).

    Keys: cpus_allowed (a list string), thread_cpus_allowed (the distinct ones of all threads),
    policy, policy_nodes, pages (node -> count), pages_missing, page_bytes, method,
    transparent_hugepages, huge_page_bytes, numa_balancing. What the kernel does not report is null.
    """
    locate = current_backend().locate_pages
    if locate is not None:
        return _observe_simulated(locate(buffers))
    pages, missing, method = _pages(buffers)
    mode, nodes = _policy()
    return {
        "cpus_allowed": format_cpu_list(os.sched_getaffinity(0)),
        "thread_cpus_allowed": _thread_cpus(),
        "policy": mode,
        "policy_nodes": nodes,
        "pages": {str(node): count for node, count in sorted(pages.items())},
        "pages_missing": missing,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "method": method,
        "transparent_hugepages": read_kernel_setting(Path(f"{_HUGE_PAGES}/enabled")),
        "huge_page_bytes": int(read_kernel_setting(Path(f"{_HUGE_PAGES}/hpage_pmd_size")) or 0)
        or None,
        "numa_balancing": read_kernel_setting(Path("/proc/sys/kernel/numa_balancing")),
    }


def _observe_simulated(pages: Counter[int]) -> JsonDict:
    """The pages of a simulated machine, of whose CPUs and policies the kernel knows nothing."""
    return {
        "cpus_allowed": None,
        "thread_cpus_allowed": [],
        "policy": None,
        "policy_nodes": [],
        "pages": {str(node): count for node, count in sorted(pages.items())},
        "pages_missing": 0,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "method": "simulated",
        "transparent_hugepages": None,
        "huge_page_bytes": None,
        "numa_balancing": None,
    }


def judge_placement(placement: Placement, observed: JsonDict) -> tuple[float | None, str | None]:
    """The fraction of pages where they should be, and what is wrong (None: nothing).

    The fraction is None where nothing was asked of memory or the kernel does not say. Under
    `preferred` pages may spill; the fraction says so and the run stays valid.
    """
    fraction, misplaced = _judge_pages(placement, observed)
    return fraction, (
        _judge_cpus(placement, observed) or misplaced or _judge_policy(placement, observed)
    )


def _judge_pages(placement: Placement, observed: JsonDict) -> tuple[float | None, str | None]:
    pages = {int(node): count for node, count in observed["pages"].items()}
    # Missing pages count against the placement: they are not proven to be anywhere.
    total = sum(pages.values()) + (observed["pages_missing"] or 0)
    wanted = placement.memory_nodes
    if not wanted:
        return None, None
    if not total:
        if observed.get("pages_unknown"):  # the driver's own memory, of which nobody can be asked
            return None, None
        return None, "the kernel does not say where the buffers' pages are; placement is unproven"
    fraction = sum(pages.get(node, 0) for node in wanted) / total
    found = ", ".join(f"node {node}: {count}" for node, count in sorted(pages.items()))
    problem = None
    if placement.policy in ("bind", "local") and fraction < LEAST_FRACTION:
        nodes = ",".join(map(str, wanted))
        problem = f"only {fraction:.1%} of buffer pages are on node {nodes} (pages: {found})"
    if placement.policy == "interleave":
        even = 1 / len(wanted)
        worst = max(abs(pages.get(node, 0) / total - even) for node in wanted)
        if worst > INTERLEAVE_TOLERANCE:
            problem = f"pages are not spread evenly over nodes {list(wanted)} (pages: {found})"
            problem += _too_coarse(observed, total)
    return fraction, problem


def _too_coarse(observed: JsonDict, pages: int) -> str:
    """A hint where an uneven spread comes from huge pages: the kernel interleaves whole ones."""
    if observed.get("transparent_hugepages") != "always" or not observed.get("huge_page_bytes"):
        return ""
    # Two huge pages may be INTERLEAVE_TOLERANCE of the buffers at most.
    least = 2 * observed["huge_page_bytes"] / INTERLEAVE_TOLERANCE
    if pages * observed["page_bytes"] >= least:
        return ""
    return (
        f"; huge pages of {observed['huge_page_bytes'] / 1e6:.0f} MB are interleaved whole: use "
        f"experiment.test.memory_size_mb={math.ceil(least / 1e6)} or more"
    )


def _judge_policy(placement: Placement, observed: JsonDict) -> str | None:
    """What else the process allocated (weights, activations) follows its policy, page by page."""
    mode, expected = observed.get("policy"), _EXPECTED_MODES.get(placement.policy)
    if mode is None or expected is None or not placement.memory_nodes:
        return None
    nodes = observed["policy_nodes"]
    # Local allocation has an empty set of nodes (set_mempolicy(2)).
    wanted = [] if placement.policy == "local" else sorted(placement.memory_nodes)
    if mode in expected and nodes == wanted:
        return None
    asked = ":".join(filter(None, [placement.policy, ",".join(map(str, wanted))]))
    found = ":".join(filter(None, [mode, ",".join(map(str, nodes))]))
    return f"the memory policy is {found}, not {asked}"


def _judge_cpus(placement: Placement, observed: JsonDict) -> str | None:
    if placement.numa_node is None or observed["cpus_allowed"] is None:
        return None
    # A library may give its threads an affinity of their own, so all are asked.
    for allowed in {observed["cpus_allowed"], *observed["thread_cpus_allowed"]}:
        stray = set(parse_cpu_list(allowed)) - set(placement.cpus)
        if stray:
            where = f"node {placement.numa_node}"
            if placement.affinity != WHOLE_NODE:
                where = f"the planned CPUs {format_cpu_list(placement.cpus)}"
            return f"threads may run on CPUs {allowed}, outside {where}"
    return None


def _pages(buffers: Sequence[tuple[int, int]]) -> tuple[Counter[int], int | None, str | None]:
    """Pages by node, pages that are on none, and the method that was used."""
    numbers = _SYSCALLS.get(platform.machine())
    if numbers is not None:
        total: Counter[int] = Counter()
        missing = 0
        try:
            for address, nbytes in buffers:
                for _ in range(_LOOKS):
                    statuses = _move_pages(numbers[0], address, nbytes)
                    if not _woken(address, statuses):
                        break
                total.update(status for status in statuses if status >= 0)
                missing += sum(status < 0 for status in statuses)
        except OSError:
            pass
        else:
            return total, missing, "move_pages"
    try:
        text = Path("/proc/self/numa_maps").read_text()
    except OSError:
        return Counter(), None, None
    return _from_numa_maps(text, [address for address, _ in buffers]), 0, "numa_maps"


def _move_pages(number: int, address: int, nbytes: int) -> list[int]:
    """The node of every page of a range, or a negative errno. Raises OSError."""
    size = os.sysconf("SC_PAGE_SIZE")
    first, count = address // size * size, -(-(address % size + nbytes) // size)
    libc = ctypes.CDLL(None, use_errno=True)
    statuses: list[int] = []
    for start in range(0, count, _CHUNK):
        n = min(_CHUNK, count - start)
        pages = (ctypes.c_void_p * n)(
            *range(first + start * size, first + (start + n) * size, size)
        )
        status = (ctypes.c_int * n)()
        # Process 0 is this one; nodes == NULL asks and moves nothing (move_pages(2)).
        code = libc.syscall(number, 0, ctypes.c_ulong(n), pages, None, status, 0)
        if code != 0:
            raise OSError(ctypes.get_errno(), "move_pages")
        statuses.extend(status)
    return statuses


def _woken(address: int, statuses: Sequence[int]) -> bool:
    """Read a byte of every page that is on no node; whether there were any.

    Automatic NUMA balancing takes access to pages away for a while (under the default policy
    only), and some kernels (6.1) then say that they are nowhere. Reading brings them back, and
    cannot bring what was never written.
    """
    size = os.sysconf("SC_PAGE_SIZE")
    asleep = [page for page, status in enumerate(statuses) if status < 0]
    for page in asleep:  # the first page may begin before the buffer, but it is mapped with it
        ctypes.string_at(address // size * size + page * size, 1)
    return bool(asleep)


def _from_numa_maps(text: str, addresses: Sequence[int]) -> Counter[int]:
    """Pages by node of the mappings that hold these addresses (man 7 numa, /proc/pid/numa_maps).

    A line has a mapping's start, not its end: an address belongs to the last start below it.
    """
    starts: list[tuple[int, str]] = []
    for line in text.splitlines():
        start, _, rest = line.partition(" ")
        starts.append((int(start, 16), rest))
    total: Counter[int] = Counter()
    wanted = {max((s for s, _ in starts if s <= a), default=None) for a in addresses}
    for begin, rest in starts:
        if begin in wanted:
            # Counts are in pages of kernelpagesize_kB (numa(7)); here they become base pages.
            kilobytes = int(m[1]) if (m := re.search(r"kernelpagesize_kB=(\d+)", rest)) else 4
            for node, count in re.findall(r"\bN(\d+)=(\d+)", rest):
                total[int(node)] += int(count) * kilobytes * 1024 // os.sysconf("SC_PAGE_SIZE")
    return total


def _policy() -> tuple[str | None, list[int]]:
    """The calling thread's memory policy and its nodes, from get_mempolicy(2)."""
    numbers = _SYSCALLS.get(platform.machine())
    if numbers is None:
        return None, []
    words = 64  # 4096 nodes, more than any kernel is built for
    mode = ctypes.c_int()
    mask = (ctypes.c_ulong * words)()
    libc = ctypes.CDLL(None, use_errno=True)
    bits = ctypes.c_ulong(words * 64)
    if libc.syscall(numbers[1], ctypes.byref(mode), mask, bits, None, 0) != 0:
        return None, []
    index = mode.value & 0xFFF
    name = _MODES[index] if index < len(_MODES) else f"mode {index}"
    return name, [i for i in range(words * 64) if mask[i // 64] >> (i % 64) & 1]


def _thread_cpus() -> list[str]:
    """The distinct allowed-CPU lists of all threads of this process.

    Asked of sched_getaffinity(2): Cpus_allowed_list in /proc also names CPUs that are not there.
    """
    found = set()
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(ProcessLookupError):  # the thread has ended
            found.add(format_cpu_list(os.sched_getaffinity(int(task.name))))
    return sorted(found)
