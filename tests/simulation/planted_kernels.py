"""Memory kernels that really move bytes, on a virtual clock with planted rates.

kernels = PlantedKernels({"read": 20.0, "write": 10.0, "copy": 12.0}, latency_ns=100.0)

Rates are those of a whole team in GB/s, bytes counted as STREAM does. A pass is really made once,
however many are asked for, so that small arrays can stand for long measurements.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Mapping

from numa_bench.records.measuring import LINE_BYTES
from numa_bench.worker.memory_kernels.bandwidth import count_moved_bytes
from numa_bench.worker.memory_kernels.kernels import Gate, Span

_WORD = ctypes.c_uint64


class PlantedKernels:
    """`MemoryKernels` whose times follow from `gb_per_s` and `latency_ns`.

    `calls` lists operation and bytes of each call, in the order in which they began.
    """

    name = "planted"

    def __init__(self, gb_per_s: Mapping[str, float], latency_ns: float) -> None:
        self.calls: list[tuple[str, int]] = []
        self._gb_per_s = gb_per_s
        self._latency_ns = latency_ns
        self._now = 0.0
        self._lock = threading.Lock()
        self._starts: weakref.WeakKeyDictionary[Gate, float] = weakref.WeakKeyDictionary()
        self._thread = threading.local()  # its time, and the size of its team

    def read(self, address: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None) -> Span:
        begin, end = self._move("read", nbytes, passes, gate)
        words = (_WORD * (nbytes // 8)).from_address(address)
        return Span(begin, end, sum(words) * passes % 2**64)

    def write(
        self, address: int, nbytes: int, word: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        begin, end = self._move("write", nbytes, passes, gate)
        words = (_WORD * (nbytes // 8)).from_address(address)
        words[:] = [word] * len(words)
        return Span(begin, end)

    def copy(
        self, target: int, source: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        begin, end = self._move("copy", nbytes, passes, gate)
        ctypes.memmove(target, source, nbytes)
        return Span(begin, end)

    def chase(self, address: int, nbytes: int, start: int, loads: int) -> Span:
        self._note("latency", nbytes)
        begin, end = self._advance(loads * self._latency_ns / 1e9)
        words = (_WORD * (nbytes // 8)).from_address(address)
        position = start
        for _ in range(loads % (nbytes // LINE_BYTES)):  # the chain is one cycle of all lines
            position = words[(position - address) // 8]
        return Span(begin, end, position)

    def _move(
        self, operation: str, nbytes: int, passes: int, gate: Gate | None
    ) -> tuple[float, float]:
        self._note(operation, nbytes)
        if gate is not None:
            gate.wait()
            with self._lock:
                self._thread.now = self._starts.setdefault(gate, self._now)
            self._thread.team = gate.team
        moved = count_moved_bytes(operation, nbytes) * passes * getattr(self._thread, "team", 1)
        return self._advance(moved / self._gb_per_s[operation] / 1e9)

    def _advance(self, seconds: float) -> tuple[float, float]:
        begin = getattr(self._thread, "now", self._now)
        self._thread.now = end = begin + seconds
        with self._lock:
            self._now = max(self._now, end)
        return begin, end

    def _note(self, operation: str, nbytes: int) -> None:
        with self._lock:
            self.calls.append((operation, nbytes))
