"""Bandwidth of sequential read, write and copy by a team of threads.

Method: each thread covers its own slice of the arrays; all start together, and a sample is the
bytes moved from the first start to the last end. Bytes are counted as STREAM counts them
(McCalpin, "Memory Bandwidth and Machine Balance", 1995): those that the program reads and those
that it writes, so a copy of N bytes moves 2 N. What the hardware moves besides (a line that is
read because it will be written) is not counted. What is written last may still be in caches when
a sample ends, so sizes well above the last-level cache show the memory, smaller ones the caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from numa_bench.records.measuring import LINE_BYTES, OPERATIONS
from numa_bench.worker.memory_kernels.kernels import Gate, MemoryKernels, Span
from numa_bench.worker.memory_kernels.team import ThreadTeam

#: What the write kernel writes.
WORD = 0x0123456789ABCDEF
#: A calibration multiplies its passes by at most this: the first ones are slower than the rest.
_GROWTH = 100

Call = Callable[[Gate | None], Span]


class Arrays(NamedTuple):
    """Memory of this process: addresses of two arrays of `nbytes` each, which do not overlap.

    Read uses the source, write the target, copy both.
    """

    source: int
    target: int
    nbytes: int


def count_moved_bytes(operation: str, nbytes: int) -> int:
    """Bytes that one pass over arrays of `nbytes` moves, by STREAM's convention."""
    return 2 * nbytes if operation == "copy" else nbytes


def split_lines(nbytes: int, parts: int) -> list[tuple[int, int]]:
    """Slices (offset, bytes) of whole cache lines, as equal as possible; none is empty.

    There are fewer than `parts` if there are fewer lines. Raises ValueError unless `nbytes` is a
    positive multiple of a line.
    """
    lines, rest = divmod(nbytes, LINE_BYTES)
    if rest or not lines:
        raise ValueError(f"{nbytes} bytes: must be a positive multiple of {LINE_BYTES}")
    parts = min(parts, lines)
    edges = [lines * part // parts * LINE_BYTES for part in range(parts + 1)]
    return [(begin, end - begin) for begin, end in pairwise(edges)]


def make_call(kernels: MemoryKernels, operation: str, arrays: Arrays, passes: int) -> Call:
    """A call of a kernel over whole arrays. Raises ValueError for an unknown operation."""
    source, target, nbytes = arrays
    if operation == "read":
        return lambda gate: kernels.read(source, nbytes, passes=passes, gate=gate)
    if operation == "write":
        return lambda gate: kernels.write(target, nbytes, WORD, passes=passes, gate=gate)
    if operation == "copy":
        return lambda gate: kernels.copy(target, source, nbytes, passes=passes, gate=gate)
    raise ValueError(f"operation {operation!r} is none of {', '.join(OPERATIONS)}")


def slice_arrays(arrays: Arrays, parts: int) -> list[Arrays]:
    """The arrays of each thread."""
    return [
        Arrays(arrays.source + offset, arrays.target + offset, nbytes)
        for offset, nbytes in split_lines(arrays.nbytes, parts)
    ]


class BandwidthPoint:
    """One operation over arrays of one size, measured again and again.

    `passes` is how often a sample covers the arrays, and `threads` how many threads share them.
    """

    def __init__(
        self, kernels: MemoryKernels, team: ThreadTeam, operation: str, arrays: Arrays
    ) -> None:
        self.passes = 1
        self._kernels = kernels
        self._team = team
        self._operation = operation
        self._bytes = count_moved_bytes(operation, arrays.nbytes)
        self._slices = slice_arrays(arrays, len(team.cpus))
        self.threads = len(self._slices)

    def calibrate(self, seconds: float) -> None:
        """Choose `passes` so that a sample takes about so long, or one pass. Warms up, too."""
        self.passes = grow_until(seconds, self._time)

    def sample(self) -> float:
        """The bandwidth of one sample, GB/s (1e9 bytes)."""
        return self._bytes * self.passes / self._time(self.passes) / 1e9

    def _time(self, passes: int) -> float:
        spans = self._team.run(
            [make_call(self._kernels, self._operation, part, passes) for part in self._slices]
        )
        return max(span.end_s for span in spans) - min(span.begin_s for span in spans)


def grow_until(seconds: float, measure: Callable[[int], float]) -> int:
    """How many units of work take about `seconds`; `measure` times so many. At least one."""
    count = 1
    while True:
        # A clock may not see a single pass over a small array.
        took = max(measure(count), 1e-9)
        if took >= seconds / 2:
            return max(1, round(count * seconds / took))
        count = math.ceil(count * min(seconds / took, _GROWTH))
