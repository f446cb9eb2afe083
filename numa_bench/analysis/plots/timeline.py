"""The timeline of a few batches: lanes for H2D, compute, D2H, and host work where there is any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from numa_bench.analysis.profiles.activity import TO_DEVICE, TO_HOST, Activity, Copies, Int, Work
from numa_bench.analysis.profiles.inspection import Inspection
from numa_bench.analysis.profiles.intervals import (
    Cover,
    clip_cover,
    intersect_covers,
    total_length,
    unite_covers,
    unite_intervals,
)
from numa_bench.labels import gpu_label
from numa_bench.records import HOST_STAGE, STAGES

#: Colours of Okabe and Ito (2008), distinguishable by colour-blind readers; hatches also
#: distinguish them in black and white.
STYLES = {
    HOST_STAGE: ("#CC79A7", "xx"),
    "H2D": ("#56B4E9", "///"),
    "compute": ("#E69F00", ""),
    "D2H": ("#009E73", "..."),
}
#: Host-to-device copies, about one per batch, that the timeline shows.
BATCHES = 4
#: Most bars of a lane; more of them, narrower than a pixel, are drawn joined.
BARS = 2000


@dataclass(frozen=True)
class Lane:
    """One row of the timeline: busy intervals, and the bytes moved in each (None: not a copy)."""

    name: str
    start_ns: Int
    end_ns: Int
    bytes: Int | None


def draw_timeline(inspection: Inspection, target: Path) -> None:
    """Write the timeline of one report as PNG. Raises OSError when it cannot be written."""
    host = not inspection.metrics.devices
    lanes = _host_lanes(inspection.activity, STAGES) if host else _gpu_lanes(inspection)
    low, high = _excerpt(lanes, inspection)
    if HOST_STAGE in inspection.activity.ranges.names:
        lanes = [*_host_lanes(inspection.activity, (HOST_STAGE,)), *lanes]
    # Figure, not pyplot: needs no display and leaves no figure open.
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row, lane in enumerate(lanes):
        _draw_lane(axes, row, lane, low, high, inspection.window.start_ns)
    _label(axes, lanes, low, high, inspection)
    with mpl.rc_context({"hatch.linewidth": 0.8}):
        figure.savefig(target, dpi=150)


def _gpu_lanes(inspection: Inspection) -> list[Lane]:
    """The lanes of the first GPU that worked in the window."""
    device = inspection.metrics.devices[0].device

    def here(work: Work) -> Work:
        return work.select_rows(work.device == device)

    copies, kernels = here(inspection.activity.copies), here(inspection.activity.kernels)
    assert isinstance(copies, Copies)
    to_device = copies.select_rows(np.isin(copies.kind, TO_DEVICE))
    to_host = copies.select_rows(np.isin(copies.kind, TO_HOST))
    return [
        Lane("H2D", to_device.start_ns, to_device.end_ns, to_device.bytes),
        Lane("compute", kernels.start_ns, kernels.end_ns, None),
        Lane("D2H", to_host.start_ns, to_host.end_ns, to_host.bytes),
    ]


def _host_lanes(activity: Activity, stages: Sequence[str]) -> list[Lane]:
    """The host's ranges of these stages."""
    ranges = activity.ranges
    lanes = []
    for name in stages:
        index = ranges.names.index(name) if name in ranges.names else -1
        mine = ranges.select_rows(ranges.name == index)
        lanes.append(Lane(name, mine.start_ns, mine.end_ns, None))
    return lanes


def _excerpt(lanes: list[Lane], inspection: Inspection) -> tuple[int, int]:
    """From the middle of the window, where the pipeline is in steady state: some batches.

    A batch begins with an H2D copy or, where there is none, with any bar of the fullest lane.
    """
    inside = [lane.start_ns[inspection.window.contains_times(lane.start_ns)] for lane in lanes]
    starts = np.sort(inside[0] if len(inside[0]) else max(inside, key=len))
    end = int(inspection.window.cover.end[-1]) if len(inspection.window.cover.end) else 0
    if not len(starts):
        return inspection.window.start_ns, end
    first = max(0, (len(starts) - BATCHES) // 2)
    last = first + BATCHES
    if last < len(starts):
        return int(starts[first]), int(starts[last])
    ends = [int(lane.end_ns[lane.start_ns >= starts[first]].max(initial=0)) for lane in lanes]
    return int(starts[first]), min(end, max(ends)) if max(ends) else end


def _draw_lane(axes: Axes, row: int, lane: Lane, low: int, high: int, zero: int) -> None:
    shown = (lane.end_ns > low) & (lane.start_ns < high)
    bars = Cover(np.maximum(lane.start_ns[shown], low), np.minimum(lane.end_ns[shown], high))
    if len(bars.start) > BARS:
        bars = unite_intervals(bars.start, bars.end)
    color, hatch = STYLES[lane.name]
    axes.broken_barh(
        [((s - zero) / 1e6, (e - s) / 1e6) for s, e in zip(bars.start, bars.end, strict=True)],
        (row - 0.36, 0.72),
        facecolor=color,
        hatch=hatch,
        edgecolor="black",
        linewidth=0.5 if len(bars.start) < 200 else 0.1,
    )


def _label(axes: Axes, lanes: list[Lane], low: int, high: int, inspection: Inspection) -> None:
    zero, host = inspection.window.start_ns, not inspection.metrics.devices
    axes.set_yticks(range(len(lanes)), [_lane_text(lane, low, high) for lane in lanes])
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim((low - zero) / 1e6, (max(high, low + 1) - zero) / 1e6)
    axes.set_xlabel("time from the start of the window (ms)")
    axes.grid(axis="x", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if host:
        title = "Activity of the host (NVTX ranges; the report has no GPU activity)"
    else:
        device = inspection.metrics.devices[0]
        title = f"Activity of {gpu_label(device.device)}"
        title += f" ({device.name})" if device.name else ""
    axes.set_title(f"{title}: {_summarise_excerpt(lanes, low, high)}", loc="left", fontsize=11)
    name = (
        "whole report" if inspection.window.name == "all" else f'range "{inspection.window.name}"'
    )
    axes.text(
        1, -0.2, f"{inspection.path.name}, {name}", transform=axes.transAxes, ha="right",
        fontsize=7, color="0.4", parse_math=False,
    )  # fmt: skip


def _lane_text(lane: Lane, low: int, high: int) -> str:
    """The lane's name, its share of the excerpt, and how fast bytes moved."""
    busy = clip_cover(unite_intervals(lane.start_ns, lane.end_ns), low, high)
    share = total_length(busy) / (high - low) if high > low else 0.0
    text = f"{lane.name}\nbusy {_percent(share)}"
    if lane.bytes is not None:
        # Without copies that an edge cuts: of so few copies they would distort the rate.
        whole = (lane.start_ns >= low) & (lane.end_ns <= high)
        time = total_length(unite_intervals(lane.start_ns[whole], lane.end_ns[whole]))
        if time:
            text += f"\n{int(lane.bytes[whole].sum()) / time:.1f} GB/s"
    return text


def _summarise_excerpt(lanes: list[Lane], low: int, high: int) -> str:
    """The title: how much of the copies compute hides."""
    h2d, compute, d2h = (
        clip_cover(unite_intervals(lane.start_ns, lane.end_ns), low, high)
        for lane in lanes
        if lane.name in STAGES
    )
    copies = unite_covers(h2d, d2h)
    if not total_length(copies):
        return "no copies" if total_length(compute) else "none of the three stages"
    hidden = total_length(intersect_covers(copies, compute)) / total_length(copies)
    if hidden < 0.01:
        return "copies and compute do not overlap"
    return f"{_percent(hidden)} of the copy time is hidden behind compute"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
