"""What the profilers recorded of each run: overlap, idle time, exposed copies."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.plots import style

_PANELS = (
    ("overlap_fraction", "copy time hidden\nbehind compute (%)", 100.0),
    ("gpu_idle_fraction", "GPU idle,\nshare of the window (%)", 100.0),
    ("exposed_copy_ms", "copy time not hidden\n(ms in the window)", 1.0),
)


@style.with_style
def plot_profiler(table: pd.DataFrame) -> Figure | None:
    """Every profiled run as a dot: overlap, idle time, exposed copies by model and placement."""
    rows = [p for p in _PANELS if p[0] in table and table[p[0]].notna().any()]
    if not rows:
        return None
    models = list(dict.fromkeys(table["model_text"]))[: style.PANELS]
    labels = style.order_placements(table["placement"])
    title = f"Profiler results, {len(table)} reports"
    figure = style.make_figure(1.4 + 1.9 * len(rows), title=title)
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (column, label, factor) in zip(grid, rows, strict=True):
        for m, model in enumerate(models):
            for i, kind in enumerate(labels):
                chosen = (table["model_text"] == model) & (table["placement"] == kind)
                values = factor * table.loc[chosen, column].astype(float).to_numpy()
                x = m + (i + 0.5) / len(labels) * 0.7 - 0.35
                look = style.get_placement_style(kind)
                axes.plot(
                    [x] * len(values), values, look.marker, color=look.color, markersize=6,
                    markeredgecolor=style.INK, markeredgewidth=0.5,
                )  # fmt: skip
        axes.set_ylabel(label)
        axes.set_xlim(-0.5, len(models) - 0.5)
        most = factor * float(table[column].astype(float).max())
        axes.set_ylim(0, 104 if factor == 100 else max(1.08 * most, 1e-6))
        axes.grid(axis="y")
    width = max(8, 96 // len(models))
    names = [_wrapped(style.shorten_middle(m, 2 * width), width) for m in models]
    grid[-1].set_xticks(range(len(models)), names)
    grid[-1].set_xlabel("model")
    style.add_legend(
        figure, [style.legend_entry(label, style.get_placement_style(label)) for label in labels]
    )
    return figure


def _wrapped(text: str, width: int) -> str:
    return "\n".join(text[i : i + width].strip() for i in range(0, len(text), width))
