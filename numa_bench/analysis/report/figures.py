"""All figures of an analysis that make sense for its runs, each with a caption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots import effects as plots_effects
from numa_bench.analysis.plots import gpu_activity, style
from numa_bench.analysis.plots import machine as plots_machine
from numa_bench.analysis.plots import pooled as plots_pooled
from numa_bench.analysis.plots import runs as plots_runs
from numa_bench.analysis.plots import time as plots_time
from numa_bench.analysis.plots.shape import THROUGHPUT, Part
from numa_bench.analysis.questions.registry import load_questions

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: File stem, caption, figure.
CaptionedFigure = tuple[str, str, Figure]
#: Most figures of one kind, one for each machine or group; the tables have all.
_MOST = 4

_MACHINE = (
    "The machine: CPUs and memory of each NUMA node, the GPUs attached to it, and the relative "
    "distances between nodes as reported by the firmware."
)
_PARTS: dict[str, tuple[Callable[[Part], Figure | None], str]] = {
    "pooled": (
        plots_pooled.plot_pooled,
        "What each placement changes against local; left of 0 is slower. Diamonds: all models that "
        "the same thing limits, over all GPUs (without a GPU, over all nodes). Circles: one model. "
        "Lines are 95 % intervals. Small dots show each GPU by itself; one far from the rest is "
        "named. An interval inside the band: the placements are equal within the effect of "
        "interest.",
    ),
    "gpu_node_heatmap": (
        plots_effects.plot_heatmap,
        "Each cell is the change from the local placement of the same GPU, in "
        "percent: orange and minus are slower, blue and plus faster. Framed cells are local. "
        "Hatched cells: not significant.",
    ),
    "effects": (
        plots_effects.plot_effects,
        "Each marker is one comparison with local; left of 0 is slower. The line through it is "
        "the 95 % interval. The grey band covers effects too small for this study to detect. "
        "Hollow markers: not significant. Within a GPU, placements are ordered by node.",
    ),
    "throughput": (
        plots_runs.plot_throughput,
        "Every dot is one run, the black bars are medians. Each panel is one model with its own "
        "axis, which may not start at 0: compare the distance between placements with the scatter "
        "of their dots. In ringed runs the GPU waited for the host (mark B), so they show the "
        "host's speed.",
    ),
    "stages": (
        plots_runs.plot_stages,
        "Duration of the stages of one batch by themselves: copy to the device, compute, copy "
        "back. The diamond is the time per batch that the pipeline reached: at the end of the bar "
        "nothing overlapped, at the length of the longest stage all else was hidden; beyond the "
        "bar the GPU waited, as for the host (mark B).",
    ),
    "latency": (
        plots_runs.plot_latency,
        "Half of all batches took at most p50, 95 of 100 at most p95, 99 of 100 at most p99. Lower "
        "is better; the axis starts at 0. Runs that replay a CUDA graph are not in it: their "
        "single batches are not timed.",
    ),
}
#: Figures of a pipeline's batches, which other workloads do not have.
_OF_BATCHES = ("stages", "latency")
_COMPARISON = (
    "Each marker is the change from before to after in the same cell, with its 95 % interval; left "
    "of 0 is slower. Hollow markers: not significant."
)
_COMPARISON_OF_DAYS = (
    "Each marker is the change of a cell beyond the common shift of all, with its 95 % interval, "
    "which includes how much a cell differs from day to day; left of 0 is slower. Hollow markers: "
    "not significant."
)
_DRIFT = (
    "Every run against the median of its own cell, in the order of measurement. A slope of the "
    "black line is drift of the machine, which the randomised order of runs separates from "
    "placement. Ringed runs carry a mark."
)
_SENSORS = (
    "Clocks and temperature, the median of each run, over the time of the study; below them the "
    "runs that carry a mark, if any."
)
_PROFILER = (
    "Recorded by nsys or torch.profiler in a separate window after the timed one: how much copy "
    "time was hidden behind compute, and how long the GPU was idle."
)


def draw_figures(analysis: Analysis) -> Iterator[CaptionedFigure]:
    """Draw each figure, in the order of the page; those with nothing to show are left out.

    Figures belong to the caller; pyplot does not keep a reference to them.
    """
    yield from _draw_machines(analysis)
    if analysis.comparison is not None:
        yield from _draw_comparison(analysis.comparison.table)
    parts = list(_group_parts(analysis))
    for stem, (build, caption) in _PARTS.items():
        for i, part in enumerate(parts):
            if stem in _OF_BATCHES and part.metric != THROUGHPUT:
                continue
            yield from _with_caption(_numbered(stem, i), caption, build(part))
    yield from _draw_questions(analysis)
    yield from _with_caption("profiler", _PROFILER, gpu_activity.plot_profiler(analysis.profiles))
    frame = analysis.loaded.frame
    if frame.empty:
        return
    runs = frame[frame["in_statistics"].astype(bool)]
    yield from _with_caption("drift", _DRIFT, plots_time.plot_drift(runs))
    yield from _with_caption("sensors", _SENSORS, plots_time.plot_sensors(runs))


def _with_caption(stem: str, caption: str, figure: Figure | None) -> Iterator[CaptionedFigure]:
    if figure is not None:
        yield stem, caption, figure


def _numbered(stem: str, index: int) -> str:
    return stem if index == 0 else f"{stem}_{index + 1}"


def _draw_comparison(table: pd.DataFrame) -> Iterator[CaptionedFigure]:
    title, caption = "Change of throughput, after against before", _COMPARISON
    if table["own_ratio"].notna().any():
        title, caption = f"{title}, beyond the common shift", _COMPARISON_OF_DAYS
        own = {key: table[f"own_{key}"] for key in ("ratio", "low", "high")}
        table = table.assign(**own)
    figure = plots_effects.plot_comparison(table, title)
    yield from _with_caption("comparison", caption, figure)


def _draw_machines(analysis: Analysis) -> Iterator[CaptionedFigure]:
    """One figure for each machine, however many studies ran on it."""
    seen: dict[str, Figure] = {}
    for study in analysis.loaded.studies:
        hosts = {str(e.get("host")) for e in study.environments.values() if e.get("host")}
        topology = study.topology or {}
        # Free memory changes from study to study; the machine is the same.
        nodes = [
            {k: v for k, v in node.items() if k != "memory_free_bytes"}
            for node in topology.get("nodes") or ()
            if isinstance(node, dict)
        ]
        key = json.dumps([sorted(hosts), nodes, topology.get("gpus")], sort_keys=True, default=str)
        if key in seen or len(seen) >= _MOST:
            continue
        figure = plots_machine.plot_machine(topology, ", ".join(sorted(hosts)))
        if figure is not None:
            seen[key] = figure
            yield _numbered("machine", len(seen) - 1), _MACHINE, figure


def _group_parts(analysis: Analysis) -> Iterator[Part]:
    """The tables of each group, the one with the most cells first."""
    measured = analysis.cells[analysis.cells["n"] > 0]
    groups = list(measured["group"].value_counts(sort=True).index)[:_MOST]
    for i, group in enumerate(groups):
        yield Part(
            frame=_rows_of(analysis.loaded.frame, group),
            cells=_rows_of(measured, group),
            latency=_rows_of(analysis.latency, group),
            effects=_rows_of(analysis.effects, group),
            pooled=_rows_of(analysis.pooled, group),
            target=analysis.target,
            title=f"group {i + 1} ({_host(analysis, group)})" if len(groups) > 1 else "",
        )


def _host(analysis: Analysis, group: str) -> str:
    hosts = _rows_of(analysis.loaded.frame, group)["host"]
    return style.shorten_middle(hosts.iloc[0], 30) if len(hosts) else group


def _rows_of(table: pd.DataFrame, group: str) -> pd.DataFrame:
    return table[table["group"] == group] if "group" in table else table


def _draw_questions(analysis: Analysis) -> Iterator[CaptionedFigure]:
    for key, question in load_questions().items():
        table = analysis.questions.get(key)
        if table is None or table.empty:
            continue
        groups = list(table["group"].value_counts(sort=True).index)[:_MOST]
        for i, group in enumerate(groups):
            figure = question.plot_figure(_rows_of(table, group))
            yield from _with_caption(_numbered(key, i), question.caption, figure)
