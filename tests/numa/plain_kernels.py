"""Memory kernels that need no compiler, for workers on a machine that has none.

A test machine has neither a compiler nor the CPU flags for which the library of its host was built.
These kernels move the same bytes in the same buffers through libc and torch, so the kernel places
the same pages; how fast they are means nothing.
"""

from __future__ import annotations

import ctypes
import time

import torch

from numa_bench.machine.backend import VARIABLE, Backend
from numa_bench.worker.memory_kernels.kernels import (
    Gate,
    KernelsUnavailable,
    Span,
    load_library,
)


def backend_variables() -> dict[str, str]:
    """What a process needs in its environment to have memory kernels on this machine."""
    try:
        load_library()
    except KernelsUnavailable:
        return {VARIABLE: f"{__name__}:backend"}
    return {}


def backend() -> Backend:
    """This machine as it is, with these kernels."""
    return Backend(memory_kernels=PlainKernels)


class PlainKernels:
    """`MemoryKernels` without a library; without `chase`, which a stream does not need."""

    name = "libc and torch"

    def read(self, address: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None) -> Span:
        words = torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.int64)
        begin, total = _start(gate), 0
        for _ in range(passes):
            total += int(words.sum())
        return Span(begin, time.monotonic(), total % 2**64)

    def write(
        self, address: int, nbytes: int, word: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        begin = _start(gate)
        for _ in range(passes):
            ctypes.memset(address, word & 0xFF, nbytes)
        return Span(begin, time.monotonic())

    def copy(
        self, target: int, source: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        begin = _start(gate)
        for _ in range(passes):
            ctypes.memmove(target, source, nbytes)
        return Span(begin, time.monotonic())


def _start(gate: Gate | None) -> float:
    if gate is not None:
        gate.wait()
    return time.monotonic()
