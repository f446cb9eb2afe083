"""Pure: measure a profile: from an Activity and a window to `ProfileMetrics`.

Busy time is the length of a union of intervals, so work that ran at the same time counts once; a
summed time counts it twice. Only the part of an operation inside the window counts, and its bytes
in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from numa_bench.analysis.profiles.activity import (
    COPY_KINDS,
    TO_DEVICE,
    TO_HOST,
    Activity,
    Copies,
    Gpu,
    Int,
    Kernels,
    Mask,
    Memsets,
    Syncs,
    Work,
    distinct_values,
)
from numa_bench.analysis.profiles.intervals import (
    Cover,
    intersect_covers,
    total_length,
    unite_covers,
    unite_intervals,
)
from numa_bench.analysis.profiles.launches import (
    Launches,
    link_launches,
    measure_latencies_ns,
    sum_launched_ns,
)
from numa_bench.analysis.profiles.metrics import (
    NS_PER_MS,
    NS_PER_S,
    NS_PER_US,
    Busy,
    CopyMetrics,
    DeviceMetrics,
    KernelMetrics,
    Overlap,
    ProfileMetrics,
    RangeMetrics,
    StreamMetrics,
    SyncMetrics,
    summarise_gaps,
    summarise_latencies,
)
from numa_bench.analysis.profiles.windows import Window

W = TypeVar("W", bound=Work)
#: A stream's number is unique within a process only.
_STREAM_BITS = 32


def measure_activity(activity: Activity, window: Window) -> ProfileMetrics:
    """All figures of one window. Devices are those that worked in it."""
    inside = (
        _Part.clip(activity.kernels, window),
        _Part.clip(activity.copies, window),
        _Part.clip(activity.memsets, window),
    )
    # Kernels and copies; no figure needs the calls of memsets.
    linked = [link_launches(part.work, activity.calls) for part in inside[:2]]
    devices = sorted({int(d) for part in inside for d in distinct_values(part.work.device)})
    gpus = {gpu.device: gpu for gpu in activity.gpus}
    return ProfileMetrics(
        window=window.name,
        window_count=window.count,
        window_start_ns=window.start_ns,
        window_s=window.length_ns / NS_PER_S,
        devices=tuple(_device(gpus.get(d, Gpu(d)), window, *inside, linked[0]) for d in devices),
        ranges=_ranges(activity, window, inside[:2], linked),
        syncs=_syncs(activity.syncs, window),
    )


@dataclass(frozen=True)
class _Part(Generic[W]):
    """Items of work inside a window, and for how long each of them was inside it."""

    work: W
    time_ns: Int

    @classmethod
    def clip(cls, work: W, window: Window) -> _Part[W]:
        inside = window.inside_ns(work.start_ns, work.end_ns)
        touches = inside > 0
        if not touches.all():  # an instant belongs to the window around it
            touches |= (work.start_ns == work.end_ns) & window.contains_times(work.start_ns)
        return cls(work, inside).select(touches)

    def select(self, mask: Mask) -> _Part[W]:
        return self if mask.all() else _Part(self.work.select_rows(mask), self.time_ns[mask])


def _device(
    gpu: Gpu,
    window: Window,
    kernels: _Part[Kernels],
    copies: _Part[Copies],
    memsets: _Part[Memsets],
    launches: Launches,
) -> DeviceMetrics:
    device = gpu.device
    here = kernels.work.device == device
    launches = Launches(launches.calls, launches.index[here])
    kernels = kernels.select(here)
    copies = copies.select(copies.work.device == device)
    memsets = memsets.select(memsets.work.device == device)
    by_kind = {
        int(k): copies.select(copies.work.kind == k) for k in distinct_values(copies.work.kind)
    }
    kinds = {_kind(k): _cover(part.work, window) for k, part in by_kind.items()}
    compute = _cover(kernels.work, window)
    covers = {"kernels": compute, "memsets": _cover(memsets.work, window), **kinds}
    covers["any"] = unite_covers(*covers.values())
    return DeviceMetrics(
        device=device,
        name=gpu.name,
        uuid=gpu.uuid,
        pci_address=gpu.pci_address,
        kernel_count=len(kernels.work),
        kernel_sum_ns=int(kernels.time_ns.sum()),
        memset_count=len(memsets.work),
        memset_bytes=_bytes(memsets),
        memset_sum_ns=int(memsets.time_ns.sum()),
        busy={key: _busy(cover, window) for key, cover in covers.items() if len(cover.start)},
        copies={_kind(k): _copies(part, kinds[_kind(k)], window) for k, part in by_kind.items()},
        overlap=_overlap(_lane(kinds, TO_DEVICE), compute, _lane(kinds, TO_HOST)),
        idle_gaps=summarise_gaps(covers["any"], window),
        launch_latency=summarise_latencies(measure_latencies_ns(kernels.work, launches)),
        kernels=_by_name(kernels),
        streams=_streams(kernels, copies, window),
    )


def _kind(number: int) -> str:
    return COPY_KINDS.get(number, f"kind {number}")


def _cover(work: Work, window: Window, which: Mask | None = None) -> Cover:
    if which is None or which.all():
        return window.clip_cover(unite_intervals(work.start_ns, work.end_ns))
    return window.clip_cover(unite_intervals(work.start_ns[which], work.end_ns[which]))


def _lane(kinds: Mapping[str, Cover], numbers: Iterable[int]) -> Cover:
    return unite_covers(*(kinds[_kind(number)] for number in numbers if _kind(number) in kinds))


def _fraction(length_ns: float, window: Window) -> float:
    return length_ns / window.length_ns if window.length_ns else 0.0


def _busy(cover: Cover, window: Window) -> Busy:
    return Busy(total_length(cover) / NS_PER_MS, _fraction(total_length(cover), window))


def _bytes(part: _Part[Copies] | _Part[Memsets]) -> int:
    """Bytes inside the window: of an item that its edge cuts, in proportion to the time."""
    size, whole = part.work.bytes, part.work.duration_ns
    cut = part.time_ns < whole
    # The rate within one copy is taken as constant.
    moved = size[cut] * (part.time_ns[cut] / whole[cut])
    return int(size[~cut].sum()) + round(float(moved.sum()))


def _copies(part: _Part[Copies], cover: Cover, window: Window) -> CopyMetrics:
    size, busy = _bytes(part), _busy(cover, window)
    return CopyMetrics(
        count=len(part.work),
        bytes=size,
        sum_ns=int(part.time_ns.sum()),
        busy_ms=busy.busy_ms,
        fraction_of_window=busy.fraction_of_window,
        # Bytes per nanosecond are GB per second.
        gb_per_s_of_busy_time=size / total_length(cover) if total_length(cover) else None,
        gb_per_s_of_window=_fraction(size, window),
    )


def _overlap(h2d: Cover, compute: Cover, d2h: Cover) -> Overlap:
    # While both directions copy, time passes once: hidden or exposed, it counts once.
    copies = unite_covers(h2d, d2h)
    busy, hidden = total_length(copies), total_length(intersect_covers(copies, compute))
    h2d_compute = intersect_covers(h2d, compute)
    return Overlap(
        h2d_compute_ms=total_length(h2d_compute) / NS_PER_MS,
        d2h_compute_ms=total_length(intersect_covers(d2h, compute)) / NS_PER_MS,
        h2d_d2h_ms=total_length(intersect_covers(h2d, d2h)) / NS_PER_MS,
        all_three_ms=total_length(intersect_covers(h2d_compute, d2h)) / NS_PER_MS,
        copies_busy_ms=busy / NS_PER_MS,
        hidden_fraction=hidden / busy if busy else None,
        exposed_copy_ms=(busy - hidden) / NS_PER_MS,
    )


def _by_name(part: _Part[Kernels]) -> tuple[KernelMetrics, ...]:
    """Longest summed time first. Sums are exact: integers below 2^53 in doubles."""
    names, everything = part.work.names, int(part.time_ns.sum())
    counts = np.bincount(part.work.name, minlength=len(names))
    sums = np.bincount(part.work.name, part.time_ns, len(names)).astype(np.int64)
    # lexsort's last key is the first; equal sums keep the order of appearance.
    order = np.lexsort((np.arange(len(names)), -sums))
    return tuple(
        KernelMetrics(
            name=names[i],
            count=int(counts[i]),
            sum_ns=int(sums[i]),
            mean_us=int(sums[i]) / int(counts[i]) / NS_PER_US,
            share=int(sums[i]) / everything if everything else 0.0,
        )
        for i in order
        if counts[i]
    )


def _streams(
    kernels: _Part[Kernels], copies: _Part[Copies], window: Window
) -> tuple[StreamMetrics, ...]:
    """A stream's number is unique within its process only."""
    works: tuple[Work, ...] = (kernels.work, copies.work)
    keys = [(work.process << _STREAM_BITS) | work.stream for work in works]
    streams = []
    for key in distinct_values(np.concatenate([distinct_values(some) for some in keys])):
        mine = [some == key for some in keys]
        covers = [_cover(work, window, own) for work, own in zip(works, mine, strict=True)]
        streams.append(
            StreamMetrics(
                process=int(key) >> _STREAM_BITS,
                stream=int(key) & ((1 << _STREAM_BITS) - 1),
                kernels=int(mine[0].sum()),
                kernel_busy_ms=total_length(covers[0]) / NS_PER_MS,
                copies=int(mine[1].sum()),
                copy_busy_ms=total_length(covers[1]) / NS_PER_MS,
                fraction_of_window=_fraction(total_length(unite_covers(*covers)), window),
            )
        )
    return tuple(streams)


def _ranges(
    activity: Activity,
    window: Window,
    parts: Sequence[_Part[Kernels] | _Part[Copies]],
    linked: Sequence[Launches],
) -> tuple[RangeMetrics, ...]:
    """Ranges that start in the window, longest summed time first."""
    # Whole, unlike work: a range that was cut would not be the time of a stage.
    ranges = activity.ranges.select_rows(window.contains_times(activity.ranges.start_ns))
    work = [
        sum_launched_ns(ranges, launches, part.time_ns) if (launches.index >= 0).any() else None
        for part, launches in zip(parts, linked, strict=True)
    ]
    metrics = []
    for index in np.unique(ranges.name):
        mine = ranges.name == index
        length = ranges.duration_ns[mine]
        p50, p95 = np.percentile(length, (50, 95))
        kernels, copies = (None if w is None else int(w[mine].sum()) / NS_PER_MS for w in work)
        metrics.append(
            RangeMetrics(
                name=ranges.names[index],
                count=len(length),
                total_ms=int(length.sum()) / NS_PER_MS,
                p50_ms=float(p50) / NS_PER_MS,
                p95_ms=float(p95) / NS_PER_MS,
                kernel_sum_ms=kernels,
                copy_sum_ms=copies,
            )
        )
    return tuple(sorted(metrics, key=lambda one: -one.total_ms))


def _syncs(syncs: Syncs, window: Window) -> tuple[SyncMetrics, ...]:
    time_ns = window.inside_ns(syncs.start_ns, syncs.end_ns)
    metrics = []
    for index, name in enumerate(syncs.names):
        mine = (syncs.name == index) & (time_ns > 0)
        if mine.any():
            metrics.append(SyncMetrics(name, int(mine.sum()), int(time_ns[mine].sum()) / NS_PER_MS))
    return tuple(metrics)
