"""Pure: the lines of the figure of pooled effects: their order, labels and heights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from numa_bench.analysis.plots import style

#: Levels of `stats.pooled.table`, which this room does not import.
BOUND, MODEL, UNIT = "bound", "model", "unit"
#: Groups of models from top to bottom: first those whose throughput the link decides.
_ORDER = ("transfer", "host", "host work", "compute")
#: Most models with a line of their own. Chosen for readability.
_MOST_MODELS = 40
#: Heights of a line, of the space between groups, and of the dots of single units, in inches.
ROW, GAP, STRIP = 0.27, 0.12, 0.17

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Line:
    """One line of all panels. `key` finds its row of the table; `strip`: units are below it."""

    y: float
    label: str
    key: tuple[str, ...]
    level: str
    strip: bool = False


def arrange_lines(table: pd.DataFrame) -> tuple[list[Line], float]:
    """The lines of each panel from top to bottom, and the height of all in inches."""
    groups = table[table["level"] == BOUND].drop_duplicates("model_text")
    groups = groups.sort_values("bound", key=lambda s: s.map(rank_bound), kind="stable")
    with_models = shows_models(table)
    several_units = (table["level"] == UNIT).any()
    lines: list[Line] = []
    y = 0.0
    for group in groups.to_dict("records"):
        y += GAP if lines else 0.05
        label = _group_label(group, len(groups))
        lines.append(Line(y + ROW / 2, label, group["models"], BOUND, bool(several_units)))
        y += ROW + (STRIP if several_units else 0)
        for model in group["models"] if with_models and len(group["models"]) > 1 else ():
            lines.append(Line(y + ROW / 2, style.shorten_middle(model, 32), (model,), MODEL))
            y += ROW
    return lines, y + 0.05


def find_distance(text: str) -> str:
    """The greatest distance in a text of `labels.place_distance_text`: "distance 32", or ""."""
    distances = [int(d) for d in re.findall(r"distance (\d+)", text)]
    return f"distance {max(distances)}" if distances else ""


def rank_bound(bound: str) -> int:
    """The place of a group of models in figure and tables, by what limits it."""
    return _ORDER.index(bound) if bound in _ORDER else len(_ORDER)


def shows_models(table: pd.DataFrame) -> bool:
    return int(table.loc[table["level"] == MODEL, "model_text"].nunique()) <= _MOST_MODELS


def _group_label(group: Row, groups: int) -> str:
    """ "bound by transfer, 3 models"; a group of one has its model's name."""
    count, bound = len(group["models"]), str(group["bound"])
    how = f"bound by {'the host' if bound == 'host' else bound}" if bound else ""
    if count == 1:
        name = style.shorten_middle(group["models"][0], 24)
        return f"{name}\n{how}" if how else name
    if not how:
        return "all together" if groups == 1 else f"the other {count}"
    return f"{how}, {count} models"


def find_odd_unit(pooled: Row, units: Sequence[Row], target: float) -> Row | None:
    """The unit farthest from the pooled effect; None if it is near, or not known to be far.

    Far: by more than `target`, with an interval that does not hold the pooled effect.
    """
    middle = float(pooled["ratio"])
    far = [
        row
        for row in units
        if abs(row["ratio"] / middle - 1) > target and not row["low"] <= middle <= row["high"]
    ]
    return max(far, key=lambda row: abs(math.log(row["ratio"] / middle)), default=None)
