"""All pictures of an analysis: those that make sense for its data, with a caption each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots import copies as plots_copies
from numa_bench.analysis.plots import effects as plots_effects
from numa_bench.analysis.plots import machine as plots_machine
from numa_bench.analysis.plots import questions as plots_questions
from numa_bench.analysis.plots import runs as plots_runs
from numa_bench.analysis.plots import style
from numa_bench.analysis.plots import time as plots_time
from numa_bench.analysis.plots.shape import Part

if TYPE_CHECKING:
    from numa_bench.analysis.stats.study_analysis import Analysis

Found = tuple[str, str, Figure]
#: Pictures of one kind, one for each machine or group; what is more is in the tables.
_MOST = 4

_MACHINE = (
    "The machine: CPUs and memory of each NUMA node, the GPUs that hang on it, and the relative "
    "distances between nodes as the firmware tells them."
)
_CAPTIONS: dict[str, tuple[Callable[[Part], Figure | None], str]] = {
    "gpu_node_heatmap": (
        plots_effects.plot_heatmap,
        "Each cell is the change of throughput against the local placement of the same GPU, in "
        "percent: orange and minus are slower, blue and plus faster. A framed cell is local; "
        "hatched ones cannot be told from local with these runs.",
    ),
    "effects": (
        plots_effects.plot_effects,
        "Each marker is one comparison with local: left of the line at 0 is slower. The line "
        "through it is the 95 % interval, the grey band holds effects too small for this study to "
        "see, and a hollow marker is no proven difference. Within a GPU, placements are in the "
        "order of their nodes.",
    ),
    "throughput": (
        plots_runs.plot_throughput,
        "Every dot is one run, the black bars are medians. Each panel is one model with an axis of "
        "its own, which need not start at 0: look at how far the dots of one placement are from "
        "those of another, and how much they scatter.",
    ),
    "stages": (
        plots_runs.plot_stages,
        "How long the stages of one batch take: copy to the device, compute, copy back. Where the "
        "stages overlap, the longest one sets the throughput, not their sum.",
    ),
    "latency": (
        plots_runs.plot_latency,
        "Half of all batches took at most p50, 95 of 100 at most p95, 99 of 100 at most p99. Lower "
        "is better; the axis starts at 0.",
    ),
}
_COMPARISON = (
    "Each marker is the change from the first study to the second in the same cell, with its 95 % "
    "interval: left of the line at 0 is slower. A hollow marker is no proven difference."
)
_DRIFT = (
    "Every run against the median of its own cell, in the order in which runs were made. A slope "
    "of the black line is drift of the machine, which the order of the runs keeps apart from "
    "placement; ringed runs, where there are any, carry a mark."
)
_SENSORS = (
    "Clocks and temperature, medians of each run, over the time of the study, and below them "
    "those runs that carry a mark, if any."
)
_PROFILER = (
    "What nsys or torch.profiler recorded in a window of its own, after the timed one: how much "
    "copy time was hidden behind compute, and how long the GPU had nothing to do."
)
_QUESTIONS = {
    "compile": (
        "Left, the throughput of a compiled model over the same model uncompiled, with its 95 % "
        "interval: right of 1 is faster. Right, how many samples it takes until the time of "
        "compilation is won back."
    ),
    "scaling": (
        "How throughput, achieved floating-point operations and the share of copies change with "
        "the model's size. Below the dotted line at 50 % compute takes longer than both copies "
        "together; from a dashed line on compute is the longest stage, and the model is compute "
        "bound. Vertical bars are 95 % intervals, or the range over GPUs."
    ),
    "batch": "Larger batches: what they add in throughput, and what they cost in latency.",
    "resolution": "Larger images: fewer samples per second, and how the share of copies changes.",
    "pipeline": (
        "More buffers in flight hide copies behind compute until nothing is left to hide; after "
        "that they only add latency."
    ),
    "bandwidth": (
        "How fast samples were copied for every GPU and node, and in brackets what share of the "
        "PCIe link's limit that is (before packet headers). The framed cells are local."
    ),
}


def draw_figures(analysis: Analysis) -> Iterator[Found]:
    """File stem, caption in plain words and figure of each picture, in the order of the page.

    A picture that has nothing to show for this data is not made. Each figure belongs to the
    caller, and nothing of it stays open.
    """
    yield from _machines(analysis)
    if analysis.comparison is not None:
        title = "Change of throughput, second study against the first"
        figure = plots_effects.plot_comparison(analysis.comparison.table, title)
        yield from _found("comparison", _COMPARISON, figure)
    parts = list(_parts(analysis))
    for stem, (build, caption) in _CAPTIONS.items():
        for i, part in enumerate(parts):
            yield from _found(_numbered(stem, i), caption, build(part))
    yield from _questions(analysis)
    yield from _found("profiler", _PROFILER, plots_copies.plot_profiler(analysis.profiles))
    frame = analysis.loaded.frame
    if frame.empty:
        return
    runs = frame[frame["in_statistics"].astype(bool)]
    yield from _found("drift", _DRIFT, plots_time.plot_drift(runs))
    yield from _found("sensors", _SENSORS, plots_time.plot_sensors(runs))


def _found(stem: str, caption: str, figure: Figure | None) -> Iterator[Found]:
    if figure is not None:
        yield stem, caption, figure


def _numbered(stem: str, index: int) -> str:
    return stem if index == 0 else f"{stem}_{index + 1}"


def _machines(analysis: Analysis) -> Iterator[Found]:
    """Each machine once, however many studies ran on it."""
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


def _parts(analysis: Analysis) -> Iterator[Part]:
    """The tables of each group, the one with the most cells first."""
    measured = analysis.cells[analysis.cells["n"] > 0]
    groups = list(measured["group"].value_counts(sort=True).index)[:_MOST]
    for i, group in enumerate(groups):
        yield Part(
            frame=_of(analysis.loaded.frame, group),
            cells=_of(measured, group),
            latency=_of(analysis.latency, group),
            effects=_of(analysis.effects, group),
            title=f"group {i + 1} ({_host(analysis, group)})" if len(groups) > 1 else "",
        )


def _host(analysis: Analysis, group: str) -> str:
    hosts = _of(analysis.loaded.frame, group)["host"]
    return style.shorten_middle(hosts.iloc[0], 30) if len(hosts) else group


def _of(table: pd.DataFrame, group: str) -> pd.DataFrame:
    return table[table["group"] == group] if "group" in table else table


def _questions(analysis: Analysis) -> Iterator[Found]:
    for name, caption in _QUESTIONS.items():
        table = analysis.questions.get(name)
        if table is None or table.empty:
            continue
        for i, group in enumerate(list(table["group"].value_counts(sort=True).index)[:_MOST]):
            yield from _found(_numbered(name, i), caption, _question(name, _of(table, group)))


def _question(name: str, table: pd.DataFrame) -> Figure | None:
    if name == "compile":
        return plots_questions.plot_compile_effect(table)
    if name == "scaling":
        return plots_questions.plot_scaling(table)
    if name == "bandwidth":
        return plots_copies.plot_bandwidth(table)
    return plots_questions.plot_setting(table, name)
