"""A process like a worker, but without torch: reports where its CPUs, policy and pages are.

    numactl ... python -m tests.numa.probe '{"placement": {...}, "mb": 32, ...}'

It reports what `machine.page_placement` finds, with other sources on the same process: the
kernel's numa_maps, sched_getcpu(3) of every thread, and `numactl --show` in a child, which inherits
affinity and policy. The report is one JSON object on stdout.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from numa_bench.machine import page_placement as placement
from numa_bench.records import Placement

THREADS = 3
PAGE = os.sysconf("SC_PAGE_SIZE")
#: include/uapi/linux/mempolicy.h
MPOL_BIND, MPOL_MF_STRICT, MPOL_MF_MOVE = 2, 1, 2


@dataclass(frozen=True)
class Order:
    """What a probe is to do.

    `touch` is the part of the buffer to write to. The rest is mischief after numactl has bound the
    process: `mbind` binds the buffer, `set_mempolicy` the process, to a node; `cpus` moves one
    thread to other CPUs.
    """

    placement: Placement
    mb: int = 32
    touch: float = 1.0
    mbind: int | None = None
    set_mempolicy: int | None = None
    cpus: tuple[int, ...] | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        data = json.loads(text)
        fields = {**data["placement"]}
        for name in ("memory_nodes", "cpus"):
            fields[name] = tuple(fields[name])
        return cls(**{**data, "placement": Placement(**fields)})


@dataclass
class Report:
    """What a probe saw. `maps` is the buffer's own line of numa_maps: policy, and pages by node."""

    fraction: float | None
    problem: str | None
    observed: dict[str, Any]
    observed_by_maps: dict[str, Any]
    maps_policy: str
    maps_pages: dict[str, int]
    huge_kb: int
    ran_on: list[int] = field(default_factory=list)
    numactl_show: str = ""


class Buffer:
    """Anonymous memory in a mapping of its own: a forbidden page at either end keeps the kernel
    from merging it with its neighbours, so that its line of numa_maps is about it alone."""

    def __init__(self, mb: int) -> None:
        self.nbytes = mb * 1_000_000 // PAGE * PAGE
        self._map = mmap.mmap(
            -1, self.nbytes + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.address = start + PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, self.address + self.nbytes):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def touch(self, part: float) -> None:
        ctypes.memset(self.address, 1, int(self.nbytes * part))


def main(order: Order) -> Report:
    """Carry out the order."""
    if order.set_mempolicy is not None:
        _numa_call("set_mempolicy", MPOL_BIND, *_mask(order.set_mempolicy))
    buffer = Buffer(order.mb)
    if order.mbind is not None:
        where = ctypes.c_void_p(buffer.address), ctypes.c_ulong(buffer.nbytes)
        flags = MPOL_MF_STRICT | MPOL_MF_MOVE
        _numa_call("mbind", *where, MPOL_BIND, *_mask(order.mbind), flags)
    buffer.touch(order.touch)
    done = threading.Event()
    threads = [_Thread(done, order.cpus if n == 0 else None) for n in range(THREADS)]
    for thread in threads:
        thread.ready.wait()
    buffers = [(buffer.address, buffer.nbytes)]
    observed = placement.observe_placement(buffers)
    fraction, problem = placement.judge_placement(order.placement, observed)
    report = Report(
        fraction, problem, observed, _without_move_pages(buffers), *_maps(buffer), _huge_kb(buffer)
    )
    done.set()
    for thread in threads:
        thread.join()
    report.ran_on = sorted({thread.cpu for thread in threads})
    shown = subprocess.run(["numactl", "--show"], capture_output=True, text=True, check=True)
    report.numactl_show = shown.stdout
    return report


class _Thread(threading.Thread):
    """Runs until it is stopped, and records the CPU it ran on."""

    def __init__(self, done: threading.Event, cpus: tuple[int, ...] | None) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.cpu = -1
        self._done = done
        self._cpus = cpus
        self.start()

    def run(self) -> None:
        if self._cpus is not None:
            os.sched_setaffinity(0, self._cpus)  # of this thread: 0 is the caller
        self.cpu = ctypes.CDLL(None).sched_getcpu()
        self.ready.set()
        self._done.wait()


def _numa_call(name: str, *arguments: Any) -> None:
    """A system call through libnuma, which comes with numactl and knows its number."""
    library = ctypes.CDLL("libnuma.so.1", use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mask(node: int) -> tuple[Any, Any]:
    """The node as a mask, and the number of bits to pass (the kernel reads one bit less)."""
    words = node // 64 + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // 64] = 1 << node % 64
    return mask, ctypes.c_ulong(words * 64 + 1)


def _without_move_pages(buffers: list[tuple[int, int]]) -> dict[str, Any]:
    """The same observation where the system call is forbidden, as in some containers."""

    def forbidden(*_: object) -> list[int]:
        raise PermissionError(1, "move_pages")

    with mock.patch.object(placement, "_move_pages", forbidden):
        return placement.observe_placement(buffers)


def _maps(buffer: Buffer) -> tuple[str, dict[str, int]]:
    for line in Path("/proc/self/numa_maps").read_text().splitlines():
        start, policy, *fields = line.split()
        if int(start, 16) == buffer.address:
            pages = (re.fullmatch(r"N(\d+)=(\d+)", item) for item in fields)
            return policy, {match[1]: int(match[2]) for match in pages if match}
    raise LookupError(f"no mapping starts at {buffer.address:x}")


def _huge_kb(buffer: Buffer) -> int:
    """Kilobytes of the buffer in huge pages (AnonHugePages in smaps)."""
    text = Path("/proc/self/smaps").read_text()
    own = text[text.index(f"{buffer.address:x}-") :]
    match = re.search(r"^AnonHugePages:\s+(\d+) kB", own, re.M)
    return int(match[1]) if match else 0


if __name__ == "__main__":
    print(json.dumps(asdict(main(Order.from_json(sys.argv[1])))))
