"""The inspector's terminal view of one report."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from numa_bench.analysis.profiles.activity import Activity, Gpu
from numa_bench.analysis.profiles.inspection import Inspection
from numa_bench.analysis.profiles.metrics import (
    DeviceMetrics,
    Gaps,
    Latency,
    ProfileMetrics,
    RangeMetrics,
)
from numa_bench.analysis.profiles.terminal import (
    Row,
    format_duration,
    format_figure,
    format_fraction,
    make_table,
    shorten_names,
)
from numa_bench.analysis.profiles.windows import WHOLE
from numa_bench.labels import gpu_label
from numa_bench.pcie import Link

#: Most rows of each table in the terminal; --json has all.
TOP_KERNELS = 10
TOP_RANGES = 12
STREAMS = 8
#: NVTX ranges of the pipeline's stages, in the order of a batch.
STAGES = ("host", "H2D", "compute", "D2H")


def print_inspection(console: Console, inspection: Inspection) -> None:
    """Print everything about one report."""
    console.print(Text(str(inspection.path), style="bold"), soft_wrap=True)
    for line in print_head(inspection):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    metrics = inspection.metrics
    if not metrics.devices:
        console.print(f"  {_no_gpu(inspection.activity)}", style="yellow", highlight=False)
    for device in metrics.devices:
        if len(metrics.devices) > 1:
            console.print(f"\n[bold]{gpu_label(device.device)}[/] {escape(device.name or '')}")
        for part in _device(device, inspection.link):
            console.print(part)
    for part in _host(metrics):
        console.print(part)


def print_head(inspection: Inspection) -> Iterable[str]:
    source, metrics = inspection.activity.source, inspection.metrics
    yield f"{source.tool} {escape(source.version or '(version unknown)')}"
    yield from _gpus(inspection.activity)
    length = format_figure(metrics.window_s * 1e3, "ms")
    if metrics.window == WHOLE:
        yield f"window: the whole report, {length}"
    else:
        times = f", {metrics.window_count} ranges" if metrics.window_count > 1 else ""
        yield f'window: range "{escape(metrics.window)}"{times}, {length} (all: --window all)'


def _gpus(activity: Activity) -> Iterable[str]:
    """The GPUs that worked, or all of the host where none did; the others are only counted."""
    gpus, used = activity.gpus, activity.devices
    shown = [gpu for gpu in gpus if gpu.device in used] or list(gpus)
    for gpu in shown:
        yield _gpu(gpu)
    if used and not gpus:
        yield "the report does not describe its GPU"
    if len(shown) < len(gpus):
        yield f"{len(gpus) - len(shown)} other GPUs of the host have no activity in this report"
    if used and len(gpus) > 1 and not activity.gpus_identified:
        yield (
            "GPU numbers are CUDA's: the report does not map them to GPUs, so under "
            "CUDA_VISIBLE_DEVICES the GPU may be another one"
        )


def _gpu(gpu: Gpu) -> str:
    parts = [f"{gpu_label(gpu.device)}: {escape(gpu.name or 'name unknown')}"]
    if gpu.memory_bytes:
        parts.append(f"{gpu.memory_bytes / 1e9:.1f} GB")
    if gpu.sm_count:
        parts.append(f"{gpu.sm_count} SMs")
    if gpu.pci_address:
        parts.append(f"PCI {escape(gpu.pci_address)}")
    if gpu.uuid:
        parts.append(escape(gpu.uuid))
    return ", ".join(parts)


def _no_gpu(activity: Activity) -> str:
    if activity.has_gpu_work:
        return "no GPU activity in this window"
    return "no GPU activity in this report: the figures below are the host's ranges only"


def _device(device: DeviceMetrics, link: Link | None) -> Iterable[RenderableType]:
    yield _busy(device)
    if device.copies:
        yield _copies(device, link)
    if device.copies and device.kernel_count:
        yield _overlap(device)
    yield _kernels(device)
    yield _idle(device)
    if len(device.streams) > 1:
        yield _streams(device)


def _busy(device: DeviceMetrics) -> Table:
    counts = {"kernels": device.kernel_count, "memsets": device.memset_count}
    counts.update({kind: copy.count for kind, copy in device.copies.items()})
    rows = [
        (
            "all together" if kind == "any" else kind,
            f"{counts[kind]:,}" if kind in counts else "",
            format_figure(busy.busy_ms, "ms"),
            format_fraction(busy.fraction_of_window),
        )
        for kind, busy in device.busy.items()
    ]
    return make_table("GPU busy", ("", "count", "time", "of window"), rows)


def _copies(device: DeviceMetrics, link: Link | None) -> RenderableType:
    rows: list[Row] = []
    for kind, copy in device.copies.items():
        rate = copy.gb_per_s_of_busy_time
        # Copies within a device or on the host do not use the link.
        crosses = kind in ("H2D", "D2H") and link is not None and rate is not None
        rows.append(
            (
                kind,
                format_figure(copy.bytes / 1e6, "MB"),
                format_figure(rate, "GB/s"),
                format_fraction(rate / link.gb_per_s) if crosses and link and rate else "–",
                format_figure(copy.gb_per_s_of_window, "GB/s"),
            )
        )
    columns = ("", "moved", "while copying", "of link's limit", "over the window")
    return Group(make_table("Copies", columns, rows), Text(_limit_text(link), style="dim"))


def _limit_text(link: Link | None) -> str:
    if link is None:
        return "  PCIe link unknown: add --pcie GENxWIDTH, such as --pcie 4x16, for its limit"
    speed = f"{link.gb_per_s:.2f} GB/s per direction before packet headers"
    return f"  limit: {link}, {speed} (from {link.source})"


def _overlap(device: DeviceMetrics) -> RenderableType:
    overlap = device.overlap
    pairs = (
        ("H2D with compute", overlap.h2d_compute_ms),
        ("D2H with compute", overlap.d2h_compute_ms),
        ("H2D with D2H", overlap.h2d_d2h_ms),
        ("all three", overlap.all_three_ms),
    )
    lengths = make_table(
        "Overlap", ("", "time"), [(name, format_figure(ms, "ms")) for name, ms in pairs]
    )
    if overlap.hidden_fraction is None:
        return lengths
    exposed, busy = map(format_duration, (overlap.exposed_copy_ms, overlap.copies_busy_ms))
    summary = (
        f"  {format_fraction(overlap.hidden_fraction)} of the copy time is hidden behind compute; "
        f"{exposed} of {busy} is exposed"
    )
    return Group(lengths, Text(summary))


def _kernels(device: DeviceMetrics) -> RenderableType:
    top = device.kernels[:TOP_KERNELS]
    rows = [
        (
            name,
            f"{kernel.count:,}",
            format_figure(kernel.sum_ns / 1e6, "ms"),
            format_figure(kernel.mean_us, "us"),
            format_fraction(kernel.share),
        )
        for name, kernel in zip(shorten_names([k.name for k in top]), top, strict=True)
    ]
    if not rows:
        return "\n  no kernels"
    left_out = len(device.kernels) - len(rows)
    title = "Top kernels" + (f" (of {len(device.kernels)})" if left_out else "")
    return make_table(title, ("", "count", "sum", "mean", "of kernel time"), rows)


def _idle(device: DeviceMetrics) -> RenderableType:
    idle, late = device.idle_gaps, device.launch_latency
    rows = [
        (one.gap, f"{one.count:,}", format_figure(one.total_ms, "ms")) for one in idle.distribution
    ]
    lengths = make_table(
        "Idle gaps of the GPU", ("length", "count", "sum"), [r for r in rows if r[1] != "0"]
    )
    lines = [
        f"  {idle.count:,} gaps, {format_duration(idle.total_ms)} in all; {_spread(idle)}"
        if idle.count
        else "  no gaps: the GPU was never idle between its first and last work"
    ]
    if late is None:
        lines.append("  launch latency: not recorded (no launch calls that belong to kernels)")
    else:
        lines.append(f"  launch latency, call to kernel start: {_spread(late)}")
    title = Text("\nIdle gaps of the GPU", style="bold")
    return Group(lengths if idle.count else title, Text("\n".join(lines)))


def _spread(times: Gaps | Latency) -> str:
    p50, p95, longest = (
        format_duration(None if us is None else us / 1e3)
        for us in (times.p50_us, times.p95_us, times.max_us)
    )
    return f"median {p50}, p95 {p95}, longest {longest}"


def _streams(device: DeviceMetrics) -> Table:
    rows = [
        (
            f"{s.stream}"
            if len({o.process for o in device.streams}) == 1
            else f"{s.process}:{s.stream}",
            f"{s.kernels:,}",
            format_figure(s.kernel_busy_ms, "ms"),
            f"{s.copies:,}",
            format_figure(s.copy_busy_ms, "ms"),
            format_fraction(s.fraction_of_window),
        )
        for s in sorted(device.streams, key=lambda s: -s.fraction_of_window)[:STREAMS]
    ]
    columns = ("stream", "kernels", "busy", "copies", "busy", "of window")
    return make_table("Streams", columns, rows)


def _host(metrics: ProfileMetrics) -> Iterable[RenderableType]:
    """Ranges and waits of the host."""
    if metrics.ranges:
        yield _ranges(metrics.ranges)
    if metrics.syncs:
        rows = [(s.name, f"{s.count:,}", format_figure(s.sum_ms, "ms")) for s in metrics.syncs]
        yield make_table("Synchronisation", ("", "count", "sum"), rows)


def _ranges(ranges: tuple[RangeMetrics, ...]) -> Table:
    """The stages of the pipeline first, then the longest others."""
    stages = sorted((r for r in ranges if r.name in STAGES), key=lambda r: STAGES.index(r.name))
    others = [r for r in ranges if r.name not in STAGES]
    shown = (stages + others)[:TOP_RANGES]
    linked = any(r.kernel_sum_ms is not None or r.copy_sum_ms is not None for r in ranges)
    rows: list[Row] = []
    for name, one in zip(shorten_names([r.name for r in shown]), shown, strict=True):
        row: Row = (name, f"{one.count:,}", format_figure(one.total_ms, "ms"))
        row += (format_duration(one.p50_ms), format_duration(one.p95_ms))
        if linked:
            row += (format_figure(one.kernel_sum_ms, "ms"), format_figure(one.copy_sum_ms, "ms"))
        rows.append(row)
    columns = ("", "count", "sum", "median", "p95")
    title = "NVTX ranges, time on the host" + (
        f" ({len(shown)} of {len(ranges)})" if len(shown) < len(ranges) else ""
    )
    return make_table(
        title, columns + (("kernels launched", "copies launched") if linked else ()), rows
    )
