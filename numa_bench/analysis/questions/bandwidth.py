"""How fast the copies are: bandwidth of every GPU from and to every NUMA node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from numa_bench.analysis.plots import style
from numa_bench.analysis.questions.base import MARKS_COLUMN, ColumnSpec, Question
from numa_bench.analysis.questions.points import SHARED_COLUMNS
from numa_bench.analysis.stats.families import select_usable_runs
from numa_bench.analysis.stats.tables import THROUGHPUT, join_cell_marks
from numa_bench.labels import device_label, is_local
from numa_bench.pcie import GENERATIONS

Record = Mapping[Any, Any]
BANDWIDTH_COLUMNS = (
    *SHARED_COLUMNS, "gpu_name", "gpu_numa_node", "numa_node", "memory_node", "n", "h2d_gb_per_s",
    "d2h_gb_per_s", "copies", "link", "link_gb_per_s", "h2d_share", "d2h_share", "marks",
)  # fmt: skip
_WHITE_BLUE = LinearSegmentedColormap.from_list("white_blue", ["#ffffff", "#56B4E9"])
#: How copies were timed: one direction at a time, or while the other direction was busy too.
ONE_WAY, BOTH_WAYS = "one way", "both ways at once"
_DIRECTIONS = (("h2d", "H2D, host to device"), ("d2h", "D2H, device to host"))


def tabulate_bandwidth(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the copy bandwidth of every GPU from and to every node, in `BANDWIDTH_COLUMNS`.

    Each GPU is represented by the model with the least arithmetic, at best one that only copies.
    The link's limit is per direction and before packet headers, computed from the generation and
    width that NVML reported; NaN where it reported none. Shares of it are NaN where a run has only
    times of copies that shared the link with the other direction (`copies`).
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    runs = runs[(runs["device"] == "cuda") & (runs["h2d_gb_per_s"] > 0)] if len(runs) else runs
    if runs.empty:
        return pd.DataFrame(columns=list(BANDWIDTH_COLUMNS))
    # Grows like the weights of a transformer's layers; 0 for a model that only copies. Other
    # models come last.
    work = (runs["vit_depth"] * runs["vit_dim"] ** 2).astype(float)
    # Of a GPU's runs those with one-way times count, if there are any.
    runs = runs.assign(work=work, mixed=~runs["stages_alone"].astype(bool))
    runs = runs.sort_values(["mixed", "work"], kind="stable")
    # One setting for each GPU, so that its nodes are compared on equal batches.
    least = runs.groupby(["group", "gpu_id"])["setting"].transform("first")
    runs = runs[runs["setting"] == least].sort_index()
    names = ["monitor_pcie_max_generation_median", "monitor_pcie_max_width_median"]
    runs = runs.assign(**{name: np.nan for name in names if name not in runs})
    rates = ["h2d_gb_per_s", "d2h_gb_per_s"]
    cells = runs.groupby("cell", sort=False)
    extra = ["gpu_name", "gpu_numa_node", "numa_node", "memory_node"]
    table = runs.drop_duplicates("cell").set_index("cell", drop=False)[[*SHARED_COLUMNS, *extra]]
    table = table.join(cells[rates].median())
    # max leaves out runs whose monitor read nothing.
    links = [_link(*pair) for pair in cells[names].max().loc[table.index].to_numpy()]
    table["link"], table["link_gb_per_s"] = [a for a, _ in links], [b for _, b in links]
    table["n"], table["marks"] = cells.size(), join_cell_marks(runs)
    one_way = ~cells["mixed"].any().loc[table.index]
    table["copies"] = one_way.map({True: ONE_WAY, False: BOTH_WAYS})
    for rate in ("h2d", "d2h"):
        share = table[f"{rate}_gb_per_s"] / table["link_gb_per_s"]
        table[f"{rate}_share"] = share.where(one_way)
    table = table.reindex(columns=list(BANDWIDTH_COLUMNS)).sort_values(
        ["group", "gpu_id", "numa_node", "memory_node"], na_position="last"
    )
    return table.reset_index(drop=True)


def _link(generation: float, width: float) -> tuple[str | None, float]:
    """A link's name and its GB/s per direction; None and NaN where it is not known."""
    if not (generation in GENERATIONS and width > 0):
        return None, float("nan")
    rate, kept = GENERATIONS[int(generation)]
    # GT/s are bits per lane and second, hence / 8.
    return f"PCIe {generation:.0f}.0 x{width:.0f}", rate * kept * width / 8


@style.with_style
def plot_bandwidth(table: pd.DataFrame) -> Figure | None:
    """Copy bandwidth for every GPU (rows) and node (columns), with its share of the limit."""
    table = table.assign(place=[_place(row) for row in table.to_dict("records")])
    value_columns = [f"{d}_gb_per_s" for d, _ in _DIRECTIONS]
    if table.empty or not table[value_columns].notna().any(axis=None):
        return None
    order = table.sort_values(["numa_node", "memory_node"], na_position="last")
    places = list(order["place"].drop_duplicates())
    gpus = list(table["gpu_id"].drop_duplicates().sort_values(na_position="last"))
    if len(gpus) * len(places) < 2:
        return None  # a single number is in the table
    limits = table["link_gb_per_s"].dropna().unique()
    title = f"Copy bandwidth, {_limit_text(limits)}"
    if (table["copies"] == BOTH_WAYS).all():
        title = "Copy bandwidth while both directions were busy"
    across = 2 if len(places) <= 8 else 1
    height = 1.3 + 0.42 * len(gpus)
    figure, panels = style.make_panels(2, title, height=height, columns=across)
    figure.set_figwidth(style.WIDTH if len(places) > 2 else 0.8 * style.WIDTH)
    # Full colour is the link's limit: a cell is pale when it is slow for this hardware.
    most = float(np.nanmax([*limits, *table[value_columns].to_numpy(float).ravel()]))
    for axes, (direction, name) in zip(panels, _DIRECTIONS, strict=True):
        axes.set_title(f"{name} (GB/s)")
        for row in table.to_dict("records"):
            at = places.index(row["place"]), gpus.index(row["gpu_id"])
            _draw_cell(axes, row, direction, at, most)
        axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(len(gpus) - 0.5, -0.5))
        axes.set_xticks(range(len(places)), places)
        axes.set_yticks(range(len(gpus)), [_gpu(table, g) for g in gpus])
        axes.set_xlabel("NUMA node of CPUs and memory")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def _place(row: Record) -> str:
    cpus, memory = row["numa_node"], row["memory_node"]
    if pd.isna(cpus) and pd.isna(memory):
        return str(row["placement"])
    # CPU affinity is in brackets behind the label.
    affinity = [str(row["placement"]).partition(" (")[2].rstrip(")")]
    if not pd.isna(cpus) and cpus == memory:
        return "\n".join([f"node {cpus}", *filter(None, affinity)])
    names = [
        f"{what} {'any' if pd.isna(v) else v}" for what, v in (("CPUs", cpus), ("memory", memory))
    ]
    return "\n".join([*names, *filter(None, affinity)])


def _limit_text(limits: np.ndarray) -> str:
    if len(limits) == 0:
        return "link limit unknown"
    low, high = float(min(limits)), float(max(limits))
    limit = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
    return f"PCIe link limit {limit} GB/s each way"


def _gpu(table: pd.DataFrame, gpu: int) -> str:
    node = table.loc[table["gpu_id"] == gpu, "gpu_numa_node"].iloc[0]
    return device_label("cuda", gpu, None if pd.isna(node) else int(node))


def _draw_cell(axes: Axes, row: Record, direction: str, at: tuple[int, int], most: float) -> None:
    """Draw the bandwidth of one cell at column and row `at`; `most` GB/s has the full colour."""
    x, y = at
    value = float(row[f"{direction}_gb_per_s"])
    share = float(row[f"{direction}_share"])
    if not math.isfinite(value):
        return
    local = is_local(row["placement"])
    box = Rectangle(
        (x - 0.475, y - 0.46), 0.95, 0.92, facecolor=_WHITE_BLUE(value / most),
        edgecolor=style.INK if local else "#eeeeee", linewidth=1.6 if local else 0.6,
    )  # fmt: skip
    axes.add_patch(box)
    text = f"{value:.1f}"
    if math.isfinite(share):
        text += f"  ({style.format_percent(share, 0, sign=False)})"
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


QUESTION = Question(
    key="bandwidth",
    title="How fast are the copies?",
    order=60,
    make_table=tabulate_bandwidth,
    columns=(
        ColumnSpec("gpu_id", "GPU", "count"),
        ColumnSpec("gpu_numa_node", "its node", "count"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("numa_node", "CPU node", "count"),
        ColumnSpec("memory_node", "memory node", "count"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("h2d_gb_per_s", "H2D (GB/s)", "two_decimals"),
        ColumnSpec("h2d_share", "of the limit", "share"),
        ColumnSpec("d2h_gb_per_s", "D2H (GB/s)", "two_decimals"),
        ColumnSpec("d2h_share", "of the limit", "share"),
        ColumnSpec("copies", "timed"),
        ColumnSpec("link_gb_per_s", "link limit, one way (GB/s)", "two_decimals"),
        MARKS_COLUMN,
    ),
    plot_figure=plot_bandwidth,
    caption=(
        "Copy speed of samples for every GPU and node, one direction at a time, in brackets as a "
        "share of the PCIe link's limit in that direction (before packet headers). A cell without "
        "a share was timed while copies in the other direction shared the link. Framed cells are "
        "local."
    ),
)
