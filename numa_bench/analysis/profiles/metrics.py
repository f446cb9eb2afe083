"""The metrics of a profile; docs/reading-reports.md explains each. Units are in the names.

GB is 1e9 bytes. A metric that was not recorded, or does not apply, is None or absent, never 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from numa_bench.analysis.profiles.activity import Int
from numa_bench.analysis.profiles.intervals import Cover, find_gaps
from numa_bench.analysis.profiles.windows import Window

NS_PER_US = 1e3
NS_PER_MS = 1e6
NS_PER_S = 1e9
#: Upper edges of the classes of idle gaps, in ns; the last class is open.
GAP_EDGES_NS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
GAP_CLASSES = ("<1 us", "1-10 us", "10-100 us", "0.1-1 ms", "1-10 ms", "10-100 ms", ">=100 ms")


@dataclass(frozen=True)
class Busy:
    """How long something kept the GPU busy: union of its intervals, and share of the window."""

    busy_ms: float
    fraction_of_window: float


@dataclass(frozen=True)
class CopyMetrics:
    """Copies of one kind. `sum_ns` and `bytes` agree with nsys stats on a whole report."""

    count: int
    bytes: int
    sum_ns: int
    busy_ms: float
    fraction_of_window: float
    gb_per_s_of_busy_time: float | None
    gb_per_s_of_window: float


@dataclass(frozen=True)
class Overlap:
    """Times in ms in which the named kinds ran simultaneously. `copies` are H2D and D2H together.

    `hidden_fraction` is the part of copy time in which kernels ran too (None without copies);
    `exposed_copy_ms` the part in which none did.
    """

    h2d_compute_ms: float
    d2h_compute_ms: float
    h2d_d2h_ms: float
    all_three_ms: float
    copies_busy_ms: float
    hidden_fraction: float | None
    exposed_copy_ms: float


@dataclass(frozen=True)
class GapClass:
    """Idle gaps of similar length; `gap` names the class, one of `GAP_CLASSES`."""

    gap: str
    count: int
    total_ms: float


@dataclass(frozen=True)
class Gaps:
    """Idle times of the GPU between its first and last work in the window."""

    count: int
    total_ms: float
    p50_us: float | None
    p95_us: float | None
    max_us: float | None
    distribution: tuple[GapClass, ...]


@dataclass(frozen=True)
class Latency:
    """Start of a kernel minus start of the host's call that launched it, queueing included."""

    count: int
    p50_us: float
    p95_us: float
    max_us: float


@dataclass(frozen=True)
class KernelMetrics:
    """All launches of one kernel. `share` is of the summed time of all kernels."""

    name: str
    count: int
    sum_ns: int
    mean_us: float
    share: float


@dataclass(frozen=True)
class StreamMetrics:
    """One stream; its number is unique within a process only."""

    process: int
    stream: int
    kernels: int
    kernel_busy_ms: float
    copies: int
    copy_busy_ms: float
    fraction_of_window: float


@dataclass(frozen=True)
class DeviceMetrics:
    """One GPU. `busy` has kernels, memsets, every copy kind, and `any` for all of them."""

    device: int
    name: str | None
    uuid: str | None
    pci_address: str | None
    kernel_count: int
    kernel_sum_ns: int
    memset_count: int
    memset_bytes: int
    memset_sum_ns: int
    busy: dict[str, Busy]
    copies: dict[str, CopyMetrics]
    overlap: Overlap
    idle_gaps: Gaps
    launch_latency: Latency | None
    kernels: tuple[KernelMetrics, ...]
    streams: tuple[StreamMetrics, ...]

    def to_row(self) -> dict[str, float | int | str | None]:
        """The main metrics as one flat row; None: not measured."""
        row: dict[str, float | int | str | None] = {
            "device": self.device,
            "gpu_name": self.name,
            "gpu_uuid": self.uuid,
            "gpu_pci_address": self.pci_address,
            "kernel_count": self.kernel_count,
            "kernel_sum_ns": self.kernel_sum_ns,
            "gpu_busy_fraction": self.busy["any"].fraction_of_window
            if "any" in self.busy
            else None,
            "compute_busy_ms": self.busy["kernels"].busy_ms if "kernels" in self.busy else None,
        }
        # The same columns in every row, so that rows of several reports form one table.
        for kind in ("H2D", "D2H", "D2D", "P2P"):
            copy, name = self.copies.get(kind), kind.lower()
            row |= {
                f"{name}_count": copy.count if copy else None,
                f"{name}_bytes": copy.bytes if copy else None,
                f"{name}_sum_ns": copy.sum_ns if copy else None,
                f"{name}_busy_ms": copy.busy_ms if copy else None,
                f"{name}_gb_per_s_of_busy_time": copy.gb_per_s_of_busy_time if copy else None,
                f"{name}_gb_per_s_of_window": copy.gb_per_s_of_window if copy else None,
            }
        row |= asdict(self.overlap)
        gaps, late = self.idle_gaps, self.launch_latency
        row |= {
            "idle_gap_count": gaps.count,
            "idle_gap_total_ms": gaps.total_ms,
            "idle_gap_p50_us": gaps.p50_us,
            "idle_gap_p95_us": gaps.p95_us,
            "idle_gap_max_us": gaps.max_us,
            "launch_latency_p50_us": late.p50_us if late else None,
            "launch_latency_p95_us": late.p95_us if late else None,
            "launch_latency_max_us": late.max_us if late else None,
        }
        return row


@dataclass(frozen=True)
class RangeMetrics:
    """Ranges of one name that start in the window: time on the host, and the GPU time of the work
    launched inside (None: the report does not link calls and work)."""

    name: str
    count: int
    total_ms: float
    p50_ms: float
    p95_ms: float
    kernel_sum_ms: float | None
    copy_sum_ms: float | None


@dataclass(frozen=True)
class SyncMetrics:
    """Waits for the GPU of one kind."""

    name: str
    count: int
    sum_ms: float


@dataclass(frozen=True)
class ProfileMetrics:
    """Everything about one window of one report."""

    window: str
    window_count: int
    window_start_ns: int
    window_s: float
    devices: tuple[DeviceMetrics, ...]
    ranges: tuple[RangeMetrics, ...]
    syncs: tuple[SyncMetrics, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def summarise_gaps(busy: Cover, window: Window) -> Gaps:
    """Idle time between the first and the last work, as far as it is inside the window."""
    idle = window.clip_cover(find_gaps(busy))
    length = idle.end - idle.start
    # "right": a gap exactly at an edge belongs to the longer class, as in ">=100 ms".
    which = np.searchsorted(GAP_EDGES_NS, length, side="right")
    counts = np.bincount(which, minlength=len(GAP_CLASSES))
    sums = np.bincount(which, length, len(GAP_CLASSES))
    p50, p95, longest = _percentiles(length) or (None, None, None)
    return Gaps(
        count=len(length),
        total_ms=int(length.sum()) / NS_PER_MS,
        p50_us=p50,
        p95_us=p95,
        max_us=longest,
        distribution=tuple(
            GapClass(name, int(n), float(ns) / NS_PER_MS)
            for name, n, ns in zip(GAP_CLASSES, counts, sums, strict=True)
        ),
    )


def _percentiles(values_ns: Int) -> tuple[float, float, float] | None:
    """Median, 95th percentile and maximum in us; None without values."""
    if not len(values_ns):
        return None
    p50, p95 = np.percentile(values_ns, (50, 95))
    return float(p50) / NS_PER_US, float(p95) / NS_PER_US, int(values_ns.max()) / NS_PER_US


def summarise_latencies(values_ns: Int) -> Latency | None:
    """Launch latencies, given in ns; None without values."""
    percentiles = _percentiles(values_ns)
    return Latency(len(values_ns), *percentiles) if percentiles else None
