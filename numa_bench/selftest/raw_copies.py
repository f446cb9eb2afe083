"""Rates of bare copies between host and device: what every pipeline is measured against."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from numa_bench.worker.buffers import BatchRing
from numa_bench.worker.cuda_runtime import CudaRuntime

#: Copies in one go, and how often that is repeated; the median counts.
COPIES = 16
REPEATS = 5
#: Keeps the stream busy until the first copies are queued (submitting one takes microseconds).
_HOLD_S = 2e-3
H2D, D2H = "H2D", "D2H"


class RawCopies:
    """Copies from `sources` to the device and from there to `targets`, used in turn.

    All tensors have the same shape and type, and CUDA copies from and to them without staging.
    `owners` are kept as long as this: a `HostBuffer` that goes takes its registration with it.
    """

    def __init__(
        self,
        runtime: CudaRuntime,
        sources: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        owners: Sequence[object] = (),
    ) -> None:
        self._runtime = runtime
        self._owners = owners
        self.nbytes = sources[0].numel() * sources[0].element_size()
        self._sources, self._targets = itertools.cycle(sources), itertools.cycle(targets)
        shape, dtype = tuple(sources[0].shape), sources[0].dtype
        self._inwards, self._outwards = runtime.empty(shape, dtype), runtime.empty(shape, dtype)
        runtime.copy(self._outwards, sources[0])
        self._streams = {H2D: runtime.new_stream(), D2H: runtime.new_stream()}

    def measure_rate(self, *directions: str) -> float:
        """GB/s in each of the directions, which copy at the same time; of the slower one if they
        differ."""
        self.time_copies(directions)  # the link wakes from its power saving
        seconds = statistics.median(self.time_copies(directions) for _ in range(REPEATS))
        return self.nbytes / seconds / 1e9

    def time_copies(self, directions: Sequence[str]) -> float:
        """Seconds of one copy in each of the directions, on average over COPIES."""
        runtime = self._runtime
        submit: dict[str, Callable[[], None]] = {
            H2D: lambda: runtime.copy(self._inwards, next(self._sources)),
            D2H: lambda: runtime.copy(next(self._targets), self._outwards),
        }
        begin, ends = runtime.new_event(), {name: runtime.new_event() for name in directions}
        runtime.synchronize()
        first = self._streams[directions[0]]
        with runtime.use_stream(first):
            runtime.hold_stream(_HOLD_S)
            begin.record(first)
        for name in directions[1:]:
            self._streams[name].wait_event(begin)
        for _ in range(COPIES):
            for name in directions:
                with runtime.use_stream(self._streams[name]):
                    submit[name]()
        for name, end in ends.items():
            end.record(self._streams[name])
        runtime.synchronize()
        return max(begin.elapsed_time(end) for end in ends.values()) / 1e3 / COPIES


def make_registered(runtime: CudaRuntime, copy_bytes: int, pool_bytes: int) -> RawCopies:
    """Raw copies of registered memory: the buffers of the product, larger than the caches."""
    rings = [
        BatchRing(
            (copy_bytes // 4,), torch.float32, nbytes=pool_bytes, registrar=runtime, huge_pages=True
        )
        for _ in range(2)
    ]
    sources, targets = (list(_rows(ring)) for ring in rings)
    return RawCopies(runtime, sources, targets, rings)


def make_pinned(
    runtime: CudaRuntime, pin_memory: Callable[[Any], Any], copy_bytes: int, pool_bytes: int
) -> RawCopies:
    """Raw copies of as much memory that torch's `pin_memory()` allocated."""
    count = max(2, -(-pool_bytes // copy_bytes))
    plain = torch.zeros(copy_bytes // 4)
    sources, targets = ([pin_memory(plain) for _ in range(count)] for _ in range(2))
    return RawCopies(runtime, sources, targets)


def _rows(ring: BatchRing) -> Iterator[torch.Tensor]:
    for _ in range(ring.batches):
        yield ring.next_batch()
