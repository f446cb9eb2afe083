"""A team of threads, each pinned to a CPU of its own, that start a kernel together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from numa_bench.machine.backend import current_backend
from numa_bench.machine.sysfs import parse_cpu_list
from numa_bench.worker.memory_kernels.kernels import Gate

_Result = TypeVar("_Result")


def choose_cpus(cpus: Iterable[int], threads: int | None, *, one_per_core: bool) -> tuple[int, ...]:
    """The CPUs of a team: one of every physical core first, then their SMT siblings.

    `threads` is the most that are wanted (None: all). `one_per_core` leaves the siblings out: two
    threads of a core share its path to memory. A CPU whose siblings the kernel does not name
    (thread_siblings_list, ABI/stable/sysfs-devices-system-cpu) counts as a core.
    """
    firsts: list[int] = []
    others: list[int] = []
    seen: set[int] = set()
    for cpu in sorted(cpus):
        (others if cpu in seen else firsts).append(cpu)
        seen.update(_read_siblings(cpu))
    return tuple((firsts if one_per_core else [*firsts, *others])[:threads])


class ThreadTeam:
    """One thread for each of `cpus`, a context manager.

    The threads inherit the memory policy of their process. Raises OSError on entering when this
    process may not use one of the CPUs.
    """

    def __init__(self, cpus: Sequence[int]) -> None:
        self.cpus = tuple(cpus)
        # A pool of one thread for each CPU: which thread gets which call is then known.
        self._threads = [ThreadPoolExecutor(1) for _ in self.cpus]

    def __enter__(self) -> ThreadTeam:
        try:
            for thread, cpu in zip(self._threads, self.cpus, strict=True):
                # 0 is the calling thread (sched_setaffinity(2)).
                thread.submit(os.sched_setaffinity, 0, {cpu}).result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, calls: Sequence[Callable[[Gate], _Result]]) -> list[_Result]:
        """Make one call in each of the first threads, and return what they returned, in order.

        Each call gets the gate at which all of them start. Raises what a call raised, and
        ValueError when there are more calls than threads.
        """
        if len(calls) > len(self._threads):
            raise ValueError(f"{len(calls)} calls for {len(self._threads)} threads")
        gate = Gate(len(calls))
        pending = [
            thread.submit(call, gate) for thread, call in zip(self._threads, calls, strict=False)
        ]
        return [future.result() for future in pending]

    def _end(self) -> None:
        for thread in self._threads:
            thread.shutdown()


def _read_siblings(cpu: int) -> tuple[int, ...]:
    path = Path("sys/devices/system/cpu", f"cpu{cpu}", "topology/thread_siblings_list")
    try:
        return parse_cpu_list((current_backend().root / path).read_text().strip())
    except (OSError, ValueError):
        return (cpu,)
