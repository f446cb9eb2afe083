"""A load on memory: passes over arrays for a while, each with its start and duration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from numa_bench.records.measuring import LINE_BYTES
from numa_bench.worker.memory_kernels.bandwidth import (
    Arrays,
    Call,
    count_moved_bytes,
    make_call,
    slice_arrays,
)
from numa_bench.worker.memory_kernels.kernels import Gate, MemoryKernels, Span
from numa_bench.worker.memory_kernels.team import ThreadTeam

#: A pass covers its slice as often as it takes to move this much: some 0.1 to 1 ms, far more than
#: the microseconds between two passes.
_PASS_BYTES = 8_000_000


@dataclass(frozen=True)
class StreamWindow:
    """What a `StreamLoop` did. All its passes are here, those of all threads, by start.

    `begin_s` and `end_s` are times of `time.monotonic`, which all processes of a host share; the
    passes start at `start_ms` after `begin_s` and take `pass_ms`. Each moves `pass_bytes`.
    """

    begin_s: float
    end_s: float
    pass_bytes: int
    start_ms: tuple[float, ...]
    pass_ms: tuple[float, ...]

    @property
    def gb_per_s(self) -> float:
        """Bytes of all passes over the length of the window, GB/s (1e9 bytes)."""
        return len(self.pass_ms) * self.pass_bytes / (self.end_s - self.begin_s) / 1e9


class StreamLoop:
    """One operation over arrays by one thread on each of `cpus`, for at least some time.

    Threads start together and then do not wait for each other; each has a slice of the same size,
    so up to a line per thread is left out. Raises ValueError for an unknown operation, or arrays
    with fewer lines than CPUs.
    """

    def __init__(
        self, kernels: MemoryKernels, operation: str, arrays: Arrays, cpus: Sequence[int]
    ) -> None:
        slice_bytes = arrays.nbytes // len(cpus) // LINE_BYTES * LINE_BYTES
        if not slice_bytes:
            raise ValueError(f"{arrays.nbytes} bytes are too few for {len(cpus)} CPUs")
        self._cpus = tuple(cpus)
        passes = math.ceil(_PASS_BYTES / slice_bytes)
        self.pass_bytes = passes * count_moved_bytes(operation, slice_bytes)
        parts = slice_arrays(arrays._replace(nbytes=slice_bytes * len(cpus)), len(cpus))
        self._calls = [make_call(kernels, operation, part, passes) for part in parts]

    def run(self, seconds: float) -> StreamWindow:
        """Stream for at least `seconds` from the common start, and for one pass."""

        def repeat(call: Call, gate: Gate) -> list[Span]:
            spans = [call(gate)]
            end = spans[0].begin_s + seconds
            while spans[-1].end_s < end:
                spans.append(call(None))
            return spans

        with ThreadTeam(self._cpus) as team:
            jobs = [lambda gate, call=call: repeat(call, gate) for call in self._calls]
            spans = sorted(span for job in team.run(jobs) for span in job)
        begin = spans[0].begin_s
        return StreamWindow(
            begin_s=begin,
            end_s=max(span.end_s for span in spans),
            pass_bytes=self.pass_bytes,
            start_ms=tuple((span.begin_s - begin) * 1e3 for span in spans),
            pass_ms=tuple((span.end_s - span.begin_s) * 1e3 for span in spans),
        )
