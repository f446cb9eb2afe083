"""What workers lose together: the rate of a set over that of its workers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.base import MARKS_COLUMN, ColumnSpec, Question
from numa_bench.analysis.stats.tables import THROUGHPUT, join_cell_marks
from numa_bench.records import MEASURED

CONTENTION_COLUMNS = (
    "group", "cell", "vit_name", "scenario", "background", "placement", "workers", "gpu_ids", "n",
    "unit", "total", "per_worker", "remaining", "loss", "loss_low", "loss_high", "fairness",
    "slowest_worker_share", "marks", "words",
)  # fmt: skip
_ALONE, _NO_LOAD = "alone", "none"
STREAM = "stream_gb_per_s"


def tabulate_contention(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per set and model; columns are `CONTENTION_COLUMNS`.

    `loss` is 1 - total / (sum of what each worker reached alone, local and without load): the
    geometric mean of that ratio over repeats, which are paired because each block holds every set
    once. `loss_low` and `loss_high` are a 95 % interval by Student's t of its logarithms, NaN below
    3 repeats; the loss is NaN where a worker was not measured alone.
    """
    runs = _select_sets(frame)
    if runs.empty:
        return pd.DataFrame(columns=list(CONTENTION_COLUMNS))
    alone = _rates_alone(runs)
    marks = join_cell_marks(runs)
    rows = []
    for cell, mine in runs.groupby("cell", sort=False):
        row = _describe_cell(mine, alone)
        rows.append({**row, "cell": cell, "marks": marks.get(cell, "")})
    table = pd.DataFrame(rows)
    table["words"] = [_sentence(row) for row in table.to_dict("records")]
    table = table.reindex(columns=list(CONTENTION_COLUMNS))
    order = ["group", "vit_name", "background", "workers", "scenario"]
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def _select_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """The sets in the statistics, with their `rate` and its unit."""
    if frame.empty or "scenario" not in frame:
        return frame.iloc[:0]
    runs = frame[frame["scenario"].notna() & frame["in_statistics"].astype(bool)]
    streams = runs[THROUGHPUT].isna()
    rate = runs[THROUGHPUT].where(~streams, runs[STREAM])
    return runs.assign(rate=rate, unit=np.where(streams, "GB/s", "samples/s"))


def _measured(row: Mapping[Any, Any]) -> list[Any]:
    return [worker for worker in row["workers"] if worker["role"] == MEASURED]


def _who(worker: Mapping[str, Any]) -> tuple[Any, ...]:
    """A worker as it is called alone: its GPU, or the node of its CPUs."""
    if worker["gpu_id"] is not None:
        return ("gpu", worker["gpu_id"])
    return ("node", worker["numa_node"])


def _key(row: Mapping[Any, Any], worker: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["study_dir"], row["group"], row["model_text"], row["repeat"], *_who(worker)


def _rates_alone(runs: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """The rate of each worker alone, local and without load, in each repeat."""
    quiet = runs[(runs["scenario"] == _ALONE) & (runs["background"] == _NO_LOAD)]
    return {_key(row, _measured(row)[0]): row["rate"] for row in quiet.to_dict("records")}


def _describe_cell(runs: pd.DataFrame, alone: Mapping[tuple[Any, ...], float]) -> dict[str, Any]:
    first = runs.iloc[0].to_dict()
    workers = _measured(first)
    logs = []
    for row in runs.to_dict("records"):
        bases = [alone.get(_key(row, worker), math.nan) for worker in _measured(row)]
        logs.append(math.log(row["rate"] / sum(bases)))
    ratios = np.array([value for value in logs if math.isfinite(value)])
    middle, low, high = _interval(ratios)
    total = float(runs["rate"].median())
    base = first["scenario"] == _ALONE and first["background"] == _NO_LOAD
    ids = [worker["gpu_id"] for worker in workers if worker["gpu_id"] is not None]
    return {
        "group": first["group"],
        "vit_name": first["vit_name"],
        "scenario": first["scenario"],
        "background": first["background"],
        "placement": first["placement"],
        "workers": len(workers),
        "gpu_ids": ",".join(map(str, ids)) or ",".join(worker["name"] for worker in workers),
        "n": len(runs),
        "unit": first["unit"],
        "total": total,
        "per_worker": total / len(workers),
        "remaining": math.exp(middle),
        # Compared with itself alone a worker loses nothing by definition.
        "loss": math.nan if base else 1 - math.exp(middle),
        "loss_low": math.nan if base else 1 - math.exp(high),
        "loss_high": math.nan if base else 1 - math.exp(low),
        "fairness": runs["fairness"].median(),
        "slowest_worker_share": runs["slowest_worker_share"].median(),
    }


def _interval(logs: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Mean of logarithms and its 95 % interval (Student's t)."""
    if not len(logs):
        return math.nan, math.nan, math.nan
    middle = float(logs.mean())
    if len(logs) < 3:
        return middle, math.nan, math.nan
    half = float(student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return middle, middle - half, middle + half


def _sentence(row: Mapping[Any, Any]) -> str:
    """The row in words; empty where there is no loss to speak of."""
    if math.isnan(row["loss"]):
        return ""
    kind = "GPUs" if row["unit"] == "samples/s" else "workers"
    who = f"{row['workers']} {kind}" if row["workers"] > 1 else f"one {kind[:-1]}"
    beside = "" if row["background"] == _NO_LOAD else f" beside {row['background']} load"
    interval = ""
    if math.isfinite(row["loss_low"]):
        interval = f" [{_percent(row['loss_low'])} to {_percent(row['loss_high'])}]"
    verb = "lose" if row["workers"] > 1 else "loses"
    name = str(row["scenario"]).replace("_", " ")
    return f"{name}, {who}{beside}: {verb} {_percent(row['loss'])}{interval} against alone"


def summarize_contention(table: pd.DataFrame) -> str:
    """The largest loss in words; empty where there is none."""
    losses = table[table["loss"].notna()]
    if losses.empty:
        return ""
    words = losses.sort_values("loss", ascending=False, kind="stable")["words"].iloc[0]
    which = f", the largest of {len(losses)} losses" if len(losses) > 1 else ""
    return f"Workers together: {words}{which}."


def _percent(fraction: float) -> str:
    return style.format_percent(fraction, sign=False)


@style.with_style
def plot_contention(table: pd.DataFrame) -> Figure | None:
    """What remains of the rate alone over the number of workers, a panel for each model."""
    table = table[table["remaining"].notna()]
    if table.empty or table["workers"].nunique() < 2:
        return None
    models = list(dict.fromkeys(table["vit_name"]))[:6]
    figure, panels = style.make_panels(len(models), "What remains beside others", height=3.0)
    labels = style.order_placements(table["placement"])
    for axes, model in zip(panels, models, strict=True):
        _draw(axes, table[table["vit_name"] == model], labels)
        axes.set_title(str(model))
    handles = [
        style.legend_entry(label, style.get_placement_style(label), line=True) for label in labels
    ]
    style.add_legend(figure, handles)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, labels: Sequence[str]) -> None:
    counts = sorted(table["workers"].unique())
    places = {count: place for place, count in enumerate(counts)}
    axes.axhline(100, color=style.INK, linewidth=0.8, linestyle=":")
    for index, label in enumerate(labels):
        look = style.get_placement_style(label)
        mine = table[(table["placement"] == label) & (table["background"] == _NO_LOAD)]
        # Beside each other, so that equal ones do not hide one another.
        shift = 0.06 * (index - (len(labels) - 1) / 2)
        middle = mine.groupby("workers")["remaining"].median()
        x = [places[count] + shift for count in middle.index]
        axes.plot(
            x,
            100 * middle,
            color=look.color,
            marker=look.marker,
            linestyle=look.line,
            markersize=7,
            markeredgecolor=style.INK,
            markeredgewidth=0.6,
        )
        for row in mine.to_dict("records"):
            if math.isfinite(row["loss_low"]):
                ends = [100 * (1 - row["loss_high"]), 100 * (1 - row["loss_low"])]
                axes.plot([places[row["workers"]] + shift] * 2, ends, color=look.color)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_xlabel("workers together")
    axes.set_ylabel("rate, % of alone")
    axes.set_ylim(0, max(110.0, 105 * float(table["remaining"].max())))


QUESTION = Question(
    key="contention",
    title="What do workers lose together?",
    order=80,
    make_table=tabulate_contention,
    columns=(
        ColumnSpec("vit_name", "model"),
        ColumnSpec("scenario", "scenario"),
        ColumnSpec("background", "load beside it"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("workers", "workers", "count"),
        ColumnSpec("gpu_ids", "GPUs or workers"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("total", "total", "number"),
        ColumnSpec("per_worker", "per worker", "number"),
        ColumnSpec("unit", "unit"),
        ColumnSpec("loss", "loss against alone", "share"),
        ColumnSpec("loss_low", "95 % interval", "share", high_key="loss_high"),
        ColumnSpec("fairness", "fairness", "two_decimals", tooltip="Jain's index; 1 is equal"),
        ColumnSpec("slowest_worker_share", "slowest", "share", tooltip="over the mean worker"),
        MARKS_COLUMN,
        ColumnSpec("words", "in words"),
    ),
    plot_figure=plot_contention,
    caption=(
        "The total rate of workers that run together, in percent of the sum of what each of them "
        "reached alone, with CPUs and memory on its own node and no load beside it. The dotted "
        "line means that nothing is lost. Points are medians over the sets of that size, bars 95 % "
        "intervals; sets beside a load are in the table."
    ),
    summarize=summarize_contention,
)
