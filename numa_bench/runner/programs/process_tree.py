"""What the kernel says of a tree of processes: its members, memory by node, threads, CPU time.

Everything is read from /proc (proc(5), numa(7)) and costs the readers' time, not the programs',
but for the lock on a process's mappings while its numa_maps is read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

#: Kinds of memory. Anonymous and shared memory is the program's own and follows its policy; file
#: pages are where the page cache already has them; driver memory is mapped from a device, such as
#: memory of cudaHostAlloc, and often without nodes.
ANONYMOUS, SHARED, DRIVER, FILE = "anonymous", "shared", "driver", "file"
KINDS = (ANONYMOUS, SHARED, DRIVER, FILE)
#: Bytes by kind and node.
Memory = Counter[tuple[str, int]]

_PROC = Path("/proc")
_NODE = re.compile(r"\bN(\d+)=(\d+)")
_PAGE_KB = re.compile(r"kernelpagesize_kB=(\d+)")
_FILE = re.compile(r" file=(\S+)")
#: Files without a file system's pages behind them: System V and POSIX shared memory, memfd_create.
_SHARED_FILES = ("/dev/shm/", "/dev/zero", "/SYSV", "/memfd:", "/[aio]")
_HUGE_FILES = ("/anon_hugepage", "anon_inode:[memfd")
_DRIVER_FILES = ("/dev/", "anon_inode:", "socket:", "/dmabuf")
_TICKS = os.sysconf("SC_CLK_TCK")


def list_tree(root: int, proc: Path = _PROC) -> list[int]:
    """A process and its living descendants. Those that were left by their parent are not found."""
    if not (proc / str(root) / "task" / str(root) / "children").exists():
        return _list_tree_slowly(root)
    tree, pending = [], [root]
    while pending:
        pid = pending.pop()
        tree.append(pid)
        with contextlib.suppress(OSError):
            for task in (proc / str(pid) / "task").iterdir():
                with contextlib.suppress(OSError):
                    pending += map(int, (task / "children").read_text().split())
    return tree


def _list_tree_slowly(root: int) -> list[int]:
    """The same by the parents of all processes, for kernels without CONFIG_PROC_CHILDREN."""
    try:
        return [root, *(p.pid for p in psutil.Process(root).children(recursive=True))]
    except psutil.Error:
        return []


def read_memory(pid: int, proc: Path = _PROC) -> Memory | None:
    """The memory of a process by kind and node; None if it has ended, or nobody may look."""
    try:
        text = (proc / str(pid) / "numa_maps").read_text(errors="replace")
    except OSError:
        return None
    return parse_numa_maps(text)


def parse_numa_maps(text: str) -> Memory:
    """Bytes by kind and node of the mappings in a numa_maps file.

    Counts of a line are in pages of its kernelpagesize_kB (numa(7)).
    """
    memory: Memory = Counter()
    for line in text.splitlines():
        # Most mappings have no pages, and so no node.
        if " N" not in line:
            continue
        size = _PAGE_KB.search(line)
        page = 1024 * (int(size[1]) if size else 4)
        kind = _name_kind(line)
        for node, count in _NODE.findall(line):
            memory[kind, int(node)] += int(count) * page
    return memory


def _name_kind(line: str) -> str:
    found = _FILE.search(line)
    if found is None or found[1].startswith(_HUGE_FILES):
        return ANONYMOUS
    if found[1].startswith(_SHARED_FILES):
        return SHARED
    return DRIVER if found[1].startswith(_DRIVER_FILES) else FILE


def find_escaped(pid: int, cpus: frozenset[int], proc: Path = _PROC) -> list[tuple[int, set[int]]]:
    """The threads of a process that may run on other CPUs than these, with those they may run on.

    Asked of sched_getaffinity(2): Cpus_allowed_list also names CPUs that are not there.
    """
    escaped = []
    with contextlib.suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                allowed = os.sched_getaffinity(int(task.name))
                if not allowed <= cpus:
                    escaped.append((int(task.name), allowed))
    return escaped


def read_name(pid: int, proc: Path = _PROC) -> str:
    """The name of a process, or of a thread by its number; "" if it has ended."""
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def read_resident(pids: Iterable[int], proc: str = "/proc") -> int:
    """Pages that are resident in these processes, those of files included."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages += int(_read_bytes(f"{proc}/{pid}/statm").split()[1])
    return pages


def read_cpu_s(pids: Iterable[int], proc: str = "/proc") -> float:
    """Seconds of CPU time that processes and their children, as far as these ended, have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name may hold spaces and brackets; fields 14 to 17 are counted after it.
            fields = _read_bytes(f"{proc}/{pid}/stat").rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def _read_bytes(path: str) -> bytes:
    """A short file by plain system calls: it is read several times a second, for each process, and
    a Path costs far more. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)
