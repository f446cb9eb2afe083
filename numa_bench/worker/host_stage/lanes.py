"""Threads of the host beside the one that submits: a lane that runs ahead, and its helpers.

A lane works off tasks one after another. It is part of `CudaRuntime`, so that tests can put a lane
with a clock of its own, or one that runs in the worst order, in the place of a thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch


class Pending(Protocol):
    """A task of a lane; `concurrent.futures.Future` is one."""

    def result(self) -> float:
        """Wait until the task has ended; return its value, or raise what it raised."""
        ...


class HostLane(Protocol):
    """A thread that works off tasks in order; a `ThreadPoolExecutor` with one thread is one."""

    def submit(self, task: Callable[[], float], /) -> Pending: ...


class HostThreads:
    """`count` threads that share the images of one batch, each a contiguous part of it.

    They inherit CPU affinity and memory policy of the thread that makes them (clone(2),
    set_mempolicy(2)). Operations of torch run on the thread that calls them: a team of OpenMP
    threads for each of them would take the CPUs of the others.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        own_threads = torch.get_num_threads()
        # Joins at the end of the process only; tasks never wait for anything but the CPU.
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="host-work")
        everyone = threading.Barrier(count)

        def start() -> None:
            # A thread takes over the process's number when it first asks for it; after that, only
            # what is set on the thread itself counts (ParallelOpenMP.cpp).
            torch.get_num_threads()
            torch.set_num_threads(1)
            everyone.wait()  # so that no thread starts twice

        for started in [self._executor.submit(start) for _ in range(count)]:
            started.result()
        # The number that was set last is also that of threads that start later.
        torch.set_num_threads(own_threads)

    def split_work(self, work: Callable[[int, range], None], items: int) -> None:
        """Call `work(part, indices)` for every part of range(items) at the same time, and wait.

        Raises what the first failing part raised.
        """
        bounds = [items * part // self.count for part in range(self.count + 1)]
        parts = [range(*pair) for pair in itertools.pairwise(bounds)]
        running = [
            self._executor.submit(work, number, part) for number, part in enumerate(parts) if part
        ]
        for part in running:
            part.result()
