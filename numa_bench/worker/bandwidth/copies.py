"""The time of copies by themselves on a CUDA device, with the method of nvbandwidth.

A spinning kernel holds the stream until all copies and the events around them are queued, so that
the events see the copies and not the host that prepares them:

    stream A   [spin............][start][copy][copy] ... [copy][end]
    stream B                [wait A's spin][start][copy] ... [copy][end]     both directions only

(NVIDIA/nvbandwidth, README, "Measurement Details".) Two things are timed by the host's clock
instead, because the host takes part in them: copies of pageable memory, which block it, and
latencies, from the submission to the return of the synchronisation.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from numa_bench.worker.bandwidth.copy_runtime import CopyRuntime
from numa_bench.worker.cuda_runtime import Event

H2D, D2H, BOTH = "h2d", "d2h", "both"
#: Round trips by the host's clock: one small copy, and the smallest kernel.
SMALL_COPY, LAUNCH = "small_copy", "launch"
#: Bytes of a small copy: one page.
SMALL_BYTES = 4096
#: Round trips of one sample, which is their median.
ROUND_TRIPS = 20
#: Copies between two events: small ones repeat, so that the events' resolution (0.5 us, CUDA
#: Runtime API, cudaEventElapsedTime) does not matter; of large ones one is enough.
_MOST_COPIES = 16
_GROUP_BYTES = 64 << 20
#: Both directions at once have so many each at least, because of the last one part is alone. They
#: are cut by so many events: one after each small copy would take part of its time.
_LEAST_BOTH = 4
#: Shortest spin before a group, and how often to lengthen it for one that takes longer to submit.
_HOLD_S = 2e-3
_HOLD_TRIES = 6


@dataclass(frozen=True)
class HostPair:
    """Two host buffers of one kind of memory, of shape (nbytes,) and type uint8.

    `source` holds the pattern that is copied to the device, `target` gets what comes back.
    """

    source: torch.Tensor
    target: torch.Tensor
    pageable: bool


@dataclass(frozen=True)
class Sample:
    """One timed group of copies. `held`: the stream was held until all was queued.

    `overlap` is the part of the time in which both directions were under way (BOTH only).
    """

    h2d_gb_per_s: float | None = None
    d2h_gb_per_s: float | None = None
    overlap: float | None = None
    held: bool = True

    @property
    def gb_per_s(self) -> float:
        """GB/s, of both directions together where both were timed."""
        return sum(rate for rate in (self.h2d_gb_per_s, self.d2h_gb_per_s) if rate is not None)


class CopyTimer:
    """Times groups of copies between host buffers and two device buffers of `nbytes` bytes.

    One device buffer is the target of copies to the device, the other, which holds `pattern`, the
    source of copies from it.
    """

    def __init__(self, runtime: CopyRuntime, nbytes: int) -> None:
        self._runtime = runtime
        self._inwards = runtime.empty((nbytes,), torch.uint8)
        self._outwards = runtime.empty((nbytes,), torch.uint8)
        self._streams = runtime.new_stream(), runtime.new_stream()
        self._hold_s = _HOLD_S

    def fill(self, pair: HostPair) -> None:
        """Put the pattern of a pair where copies from the device start."""
        self._copy(pair, self._outwards, pair.source)
        self._runtime.synchronize()

    def time_copies(self, operation: str, pair: HostPair, nbytes: int) -> Sample:
        """Time one group of copies of `nbytes` bytes each. BOTH needs page-locked memory."""
        inwards = self._inwards[:nbytes], pair.source[:nbytes]
        outwards = pair.target[:nbytes], self._outwards[:nbytes]
        count = count_copies(nbytes)
        if operation == BOTH:
            # Whole parts of `_LEAST_BOTH`: an event ends each.
            count = max(1, count // _LEAST_BOTH) * _LEAST_BOTH
            return self._time_both(inwards, outwards, nbytes, count)
        target, source = inwards if operation == H2D else outwards
        if pair.pageable:
            rate, held = self._time_blocking(target, source, nbytes, count), True
        else:
            rate, held = self._time_queued(target, source, nbytes, count)
        if operation == H2D:
            return Sample(h2d_gb_per_s=rate, held=held)
        return Sample(d2h_gb_per_s=rate, held=held)

    def time_small_copy(self, pair: HostPair) -> float:
        """Microseconds from submitting a copy of `SMALL_BYTES` to the device to its end, median."""
        nbytes = min(SMALL_BYTES, pair.source.numel())
        target, source = self._inwards[:nbytes], pair.source[:nbytes]
        return self._time_round_trips(lambda: self._copy(pair, target, source))

    def time_launch(self) -> float:
        """Microseconds from launching the smallest kernel to its end, median."""
        return self._time_round_trips(self._runtime.launch_kernel)

    def returns_pattern(self, pair: HostPair, nbytes: int) -> bool:
        """Whether bytes copied to the device and back are those that were sent."""
        device, source, target = self._inwards[:nbytes], pair.source[:nbytes], pair.target[:nbytes]
        target.zero_()
        # The device's copy is cleared too: what an earlier copy left there must not count.
        self._copy(pair, device, target)
        self._runtime.synchronize()
        self._copy(pair, device, source)
        self._copy(pair, target, device)
        self._runtime.synchronize()
        return torch.equal(source, target)

    def _copy(self, pair: HostPair, target: torch.Tensor, source: torch.Tensor) -> None:
        copy = self._runtime.copy_pageable if pair.pageable else self._runtime.copy
        copy(target, source)

    def _time_queued(
        self, target: torch.Tensor, source: torch.Tensor, nbytes: int, count: int
    ) -> tuple[float, bool]:
        """GB/s between two events on one stream, and whether it was held for all copies."""
        runtime, stream = self._runtime, self._streams[0]
        holding, start, end = (runtime.new_event() for _ in range(3))

        def submit() -> Event:
            with runtime.use_stream(stream):
                runtime.hold_stream(self._hold_s)
                holding.record(stream)
                start.record(stream)
                for _ in range(count):
                    runtime.copy(target, source)
                end.record(stream)
            return holding

        held = self._submit_held(submit)
        return _rate(nbytes * count, start.elapsed_time(end)), held

    def _time_both(
        self,
        inwards: tuple[torch.Tensor, torch.Tensor],
        outwards: tuple[torch.Tensor, torch.Tensor],
        nbytes: int,
        count: int,
    ) -> Sample:
        """Both directions at once: two streams that one event releases at the same time.

        Rates are of the time in which both were under way: the faster direction ends first, and the
        other one is then alone on the link.
        """
        runtime, (first, second) = self._runtime, self._streams
        holding = runtime.new_event()
        # Copies of each direction that have ended at its moments.
        done = range(0, count + 1, count // _LEAST_BOTH)
        moments = [[runtime.new_event() for _ in done] for _ in range(2)]

        def submit() -> Event:
            with runtime.use_stream(first):
                runtime.hold_stream(self._hold_s)
                holding.record(first)
            second.wait_event(holding)
            for index in range(count + 1):
                for stream, copy, marks in zip(
                    (first, second), (inwards, outwards), moments, strict=True
                ):
                    with runtime.use_stream(stream):
                        if index:
                            runtime.copy(*copy)
                        if index in done:
                            marks[done.index(index)].record(stream)
            return holding

        held = self._submit_held(submit)
        ends = [[holding.elapsed_time(mark) for mark in marks] for marks in moments]
        begin, end = max(times[0] for times in ends), min(times[-1] for times in ends)
        whole = max(times[-1] for times in ends) - min(times[0] for times in ends)
        common = end - begin
        if common <= 0:  # one direction was over before the other began
            return Sample(0.0, 0.0, overlap=0.0, held=held)
        h2d, d2h = (
            _rate(nbytes, common) * float(np.diff(np.interp([begin, end], times, done))[0])
            for times in ends
        )
        return Sample(h2d, d2h, overlap=common / whole, held=held)

    def _submit_held(self, submit: Callable[[], Event]) -> bool:
        """Submit once, or again with a longer spin if that ended before all was queued."""
        runtime = self._runtime
        for attempt in range(_HOLD_TRIES):
            runtime.synchronize()
            begin = runtime.host_time()
            holding = submit()
            # The event completes when the spin ends. If it has by now, copies ran while others
            # were not queued yet.
            late = holding.query()
            took_s = runtime.host_time() - begin
            runtime.synchronize()
            if not late:
                # The spin follows the host: one interruption must not lengthen all that follow.
                self._hold_s = max(_HOLD_S, 2 * took_s)
                return True
            if attempt < _HOLD_TRIES - 1:
                self._hold_s = 2 * max(self._hold_s, took_s)
        return False

    def _time_blocking(
        self, target: torch.Tensor, source: torch.Tensor, nbytes: int, count: int
    ) -> float:
        """GB/s of copies that return when they are done, by the host's clock."""
        runtime = self._runtime
        runtime.synchronize()
        begin = runtime.host_time()
        for _ in range(count):
            runtime.copy_pageable(target, source)
        # A copy to the device may return when the driver has staged its bytes.
        runtime.synchronize()
        return _rate(nbytes * count, (runtime.host_time() - begin) * 1e3)

    def _time_round_trips(self, submit: Callable[[], None]) -> float:
        runtime = self._runtime
        runtime.synchronize()
        times = []
        for _ in range(ROUND_TRIPS):
            begin = runtime.host_time()
            submit()
            runtime.synchronize()
            times.append((runtime.host_time() - begin) * 1e6)
        return statistics.median(times)


def count_copies(nbytes: int) -> int:
    """How many copies of a size one sample has."""
    return max(1, min(_MOST_COPIES, _GROUP_BYTES // nbytes))


def _rate(nbytes: int, milliseconds: float) -> float:
    return nbytes / (milliseconds * 1e-3) / 1e9
