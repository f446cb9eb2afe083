"""Two reports side by side on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from numa_bench.analysis.profiles.inspection import Inspection
from numa_bench.analysis.profiles.metrics import DeviceMetrics
from numa_bench.analysis.profiles.terminal import (
    Row,
    format_duration,
    format_figure,
    make_table,
    shorten_names,
)
from numa_bench.analysis.profiles.view import TOP_RANGES, print_head
from numa_bench.labels import gpu_label

Figure = Callable[[DeviceMetrics], float | None]

#: What two reports are compared by: name, unit, figure.
FIGURES: tuple[tuple[str, str, Figure], ...] = (
    ("kernels", "", lambda d: d.kernel_count),
    ("compute busy", "ms", lambda d: _busy_ms(d, "kernels")),
    ("H2D busy", "ms", lambda d: _busy_ms(d, "H2D")),
    ("D2H busy", "ms", lambda d: _busy_ms(d, "D2H")),
    ("H2D while copying", "GB/s", lambda d: _rate(d, "H2D")),
    ("D2H while copying", "GB/s", lambda d: _rate(d, "D2H")),
    ("H2D with compute", "ms", lambda d: d.overlap.h2d_compute_ms),
    ("D2H with compute", "ms", lambda d: d.overlap.d2h_compute_ms),
    ("copies hidden", "%", lambda d: _hundred(d.overlap.hidden_fraction)),
    ("exposed copies", "ms", lambda d: d.overlap.exposed_copy_ms),
    ("idle", "ms", lambda d: d.idle_gaps.total_ms),
    ("idle gap, median", "us", lambda d: d.idle_gaps.p50_us),
    (
        "launch latency, median",
        "us",
        lambda d: d.launch_latency.p50_us if d.launch_latency else None,
    ),
)


def _busy_ms(device: DeviceMetrics, kind: str) -> float | None:
    return device.busy[kind].busy_ms if kind in device.busy else None


def _rate(device: DeviceMetrics, kind: str) -> float | None:
    return device.copies[kind].gb_per_s_of_busy_time if kind in device.copies else None


def _hundred(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def print_comparison(console: Console, a: Inspection, b: Inspection) -> None:
    """Print two reports side by side: GPU by GPU, then range by range."""
    for label, one in (("A", a), ("B", b)):
        console.print(f"[bold]{label}[/] {escape(str(one.path))}", soft_wrap=True, highlight=False)
        for line in print_head(one):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    whole = (
        "window",
        format_figure(a.metrics.window_s * 1e3, "ms"),
        format_figure(b.metrics.window_s * 1e3, "ms"),
    )
    rows: list[Row] = [(*whole, _ratio(a.metrics.window_s, b.metrics.window_s))]
    # In order, not by number: the two runs may have used different GPUs.
    pairs = list(zip(a.metrics.devices, b.metrics.devices, strict=False))
    for first, second in pairs:
        mark = f"{gpu_label(first.device)} / {second.device}: " if len(pairs) > 1 else ""
        rows += _compared(mark, first, second)
    columns = ("", "A", "B", "B / A")
    console.print(make_table("Side by side", columns, rows))
    if len(a.metrics.devices) != len(b.metrics.devices):
        console.print(
            f"GPUs with activity: {len(a.metrics.devices)} in A, {len(b.metrics.devices)} in B; "
            "the others are not compared",
            style="yellow",
        )
    ranges = {r.name: r for r in b.metrics.ranges}
    both = [(r, ranges[r.name]) for r in a.metrics.ranges if r.name in ranges][:TOP_RANGES]
    if both:
        rows = [
            (
                name,
                format_duration(r.p50_ms),
                format_duration(o.p50_ms),
                _ratio(r.p50_ms, o.p50_ms),
            )
            for name, (r, o) in zip(shorten_names([r.name for r, _ in both]), both, strict=True)
        ]
        console.print(make_table("Median of NVTX ranges on the host", columns, rows))


def _compared(mark: str, one: DeviceMetrics, other: DeviceMetrics) -> list[Row]:
    rows: list[Row] = []
    for name, unit, figure in FIGURES:
        values = figure(one), figure(other)
        if values != (None, None):
            # Figures without a unit are counts.
            digits = 2 if unit else 0
            shown = (format_figure(value, unit, digits) for value in values)
            rows.append((mark + name, *shown, _ratio(*values)))
    return rows


def _ratio(a: float | None, b: float | None) -> str:
    return f"{b / a:.3f}" if a and b is not None else "–"
