"""Pure: rows, columns and panels of a plot, and their names."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.metric_registry import METRICS

THROUGHPUT = "throughput_samples_per_s"


@dataclass(frozen=True)
class Part:
    """The tables of one group. `title` names the group where there are several.

    `pooled` has its pooled effects; `target` is the effect of interest, a fraction.
    """

    frame: pd.DataFrame
    cells: pd.DataFrame
    latency: pd.DataFrame
    effects: pd.DataFrame
    pooled: pd.DataFrame
    target: float
    title: str = ""

    @property
    def metric(self) -> str:
        """The metric by which the placements of this group are compared."""
        return str(self.cells["metric"].iloc[0]) if len(self.cells) else THROUGHPUT

    @property
    def unit(self) -> str:
        """Its unit."""
        return str(self.cells["unit"].iloc[0]) if len(self.cells) else METRICS[THROUGHPUT].unit

    @property
    def statistics_runs(self) -> pd.DataFrame:
        """The runs that are in the statistics."""
        runs: pd.DataFrame = self.frame[self.frame["in_statistics"].astype(bool)]
        return runs

    def figure_title(self, text: str) -> str:
        """A figure's title."""
        return f"{text}, {self.title}" if self.title else text


def order_models(cells: pd.DataFrame) -> list[str]:
    """Models, the one with the most samples per second first."""
    order = cells.groupby("model_text", sort=True)["median"].median()
    return list(order.sort_values(ascending=False, kind="stable").index)


def select_models(cells: pd.DataFrame, effects: pd.DataFrame) -> tuple[list[str], str]:
    """The models that get a panel, and a note if not all do: the largest changes are kept."""
    every = order_models(cells)
    if len(every) <= style.PANELS:
        return every, ""
    if effects.empty:
        kept = set(every[: style.PANELS])
    else:
        change = (effects["ratio"] - 1).abs().groupby(effects["model_text"]).max()
        # Models without a comparison come last.
        change = change.reindex(every).fillna(-1.0)
        kept = set(change.sort_values(ascending=False, kind="stable").index[: style.PANELS])
    return [m for m in every if m in kept], f"{style.PANELS} of {len(every)} models"


def order_devices(table: pd.DataFrame) -> list[str]:
    """Devices in the order of their numbers."""
    columns = table[["gpu_id", "device_text"]].drop_duplicates("device_text")
    return list(columns.sort_values(["gpu_id", "device_text"], na_position="last")["device_text"])


def device_name(device: str) -> str:
    """ "GPU 3" for "GPU 3 (node 2)"."""
    return device.partition(" (")[0]


def order_places(table: pd.DataFrame) -> list[str]:
    """Placements by node; those that are not bound come last."""
    columns = table[["numa_node", "memory_node", "placement_text"]]
    columns = columns.drop_duplicates("placement_text")
    order = ["numa_node", "memory_node", "placement_text"]
    return list(columns.sort_values(order, na_position="last")["placement_text"])


def place_name(text: str) -> str:
    """A placement in few words: "node 2" if memory is on the same node, else two lines.

    The scenario of a set of workers, such as "all remote", is returned as it is.
    """
    if text == "any":
        return "unbound"
    if not text.startswith("node "):
        return text
    cpus, _, memory = text.partition(", ")
    if memory.removeprefix("memory ") == cpus.removeprefix("node "):
        return cpus
    cpus = "any CPU" if cpus == "node any" else f"CPUs {cpus.removeprefix('node ')}"
    return f"{cpus}\n{memory}" if memory else cpus


def break_label(label: str) -> str:
    """A placement's label on several lines, for ticks: "local/" above "remote"."""
    return label.replace("_", "_\n").replace("/", "/\n").replace(" (", "\n(")


@dataclass(frozen=True)
class BoundBlock:
    """Neighbouring sizes from `least` to `most` at which the same thing, `bound`, limits."""

    bound: str
    least: float
    most: float


def find_bound_blocks(bounds: pd.Series[str]) -> list[BoundBlock]:
    """The blocks along a series, given what limits (`bound` of a table) by size; none is skipped.

    Empty where something limits at sizes that are not neighbours: the series has no clear turns.
    """
    blocks: list[BoundBlock] = []
    for size, bound in bounds.dropna().sort_index().items():
        at = float(size)  # type: ignore[arg-type]
        if blocks and blocks[-1].bound == bound:
            blocks[-1] = BoundBlock(str(bound), blocks[-1].least, at)
        else:
            blocks.append(BoundBlock(str(bound), at, at))
    return blocks if len({block.bound for block in blocks}) == len(blocks) else []


def format_counts(values: pd.Series[int]) -> str:
    """ "5" or "3–5"."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"
