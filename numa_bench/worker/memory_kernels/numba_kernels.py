"""The memory kernels compiled by numba, for hosts with numba and no C compiler.

They follow kernels.c, with two differences: members of a team start when Python lets them, some
microseconds apart, and LLVM may turn the copy into a call of memcpy, which bypasses the caches for
large arrays.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np

from numa_bench.worker.memory_kernels.kernels import Gate, Span, check_lines


class NumbaKernels:
    """`MemoryKernels` by numba. Compiles in the constructor. Raises ImportError without numba."""

    def __init__(self, name: str = "numba") -> None:
        import numba

        compiled = numba.njit(nogil=True)
        self.name = name
        self._read = compiled(_sum_words)
        self._write = compiled(_write_words)
        self._copy = compiled(_copy_words)
        self._chase = compiled(_chase_words)
        words = np.zeros(8, dtype=np.uint64)
        self._read(words, 1)
        self._write(words, np.uint64(0), 1)
        self._copy(words, words.copy(), 1)
        self._chase(words, np.uint64(0), np.uint64(0), 1)

    def read(self, address: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None) -> Span:
        check_lines(nbytes, address)
        return _time(gate, self._read, _view_words(address, nbytes), passes)

    def write(
        self, address: int, nbytes: int, word: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        check_lines(nbytes, address)
        return _time(gate, self._write, _view_words(address, nbytes), np.uint64(word), passes)

    def copy(
        self,
        target: int,
        source: int,
        nbytes: int,
        *,
        passes: int = 1,
        gate: Gate | None = None,
    ) -> Span:
        check_lines(nbytes, target, source)
        words = _view_words(target, nbytes), _view_words(source, nbytes)
        return _time(gate, self._copy, *words, passes)

    def chase(self, address: int, nbytes: int, start: int, loads: int) -> Span:
        check_lines(nbytes, address, start)
        words = _view_words(address, nbytes)
        return _time(None, self._chase, words, np.uint64(address), np.uint64(start), loads)


def _view_words(address: int, nbytes: int) -> Any:
    """The 64-bit words of a range of this process's memory, shape (nbytes / 8,)."""
    return np.ctypeslib.as_array((ctypes.c_uint64 * (nbytes // 8)).from_address(address))


def _time(gate: Gate | None, function: Any, *arguments: Any) -> Span:
    if gate is not None and gate.team > 1:
        gate.wait()
    begin = time.monotonic()
    value = function(*arguments)
    return Span(begin, time.monotonic(), int(value))


def _sum_words(words: Any, passes: int) -> Any:
    # Four sums: additions do not wait for each other.
    a = b = c = d = np.uint64(0)
    for _ in range(passes):
        for i in range(0, words.size, 4):
            a += words[i]
            b += words[i + 1]
            c += words[i + 2]
            d += words[i + 3]
    return a + b + c + d


def _write_words(words: Any, word: Any, passes: int) -> int:
    for _ in range(passes):
        for i in range(words.size):
            words[i] = word
    return 0


def _copy_words(target: Any, source: Any, passes: int) -> int:
    for _ in range(passes):
        for i in range(source.size):
            target[i] = source[i]
    return 0


def _chase_words(words: Any, base: Any, start: Any, loads: int) -> Any:
    position = start
    for _ in range(loads):
        position = words[(position - base) >> np.uint64(3)]
    return position
