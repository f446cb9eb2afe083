"""Small matrices of numbers side by side: node of the CPUs by node of the memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from numa_bench.analysis.plots import style

_WHITE_BLUE = LinearSegmentedColormap.from_list("white_blue", ["#ffffff", "#56B4E9"])
#: Most nodes along a side at which numbers have room for a second line.
_ROOM = 8


@dataclass(frozen=True)
class Matrix:
    """One panel: value `values[i]` at row `rows[i]` and column `columns[i]`, NaN where missing.

    `notes` is a second line of each cell, `framed` cells have a dark edge.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[float]
    framed: Sequence[bool]
    notes: Sequence[str]


def draw_matrices(matrices: Sequence[Matrix], title: str, *, across: int) -> Figure:
    """Panels in rows of `across`; each column of panels has one scale of colours from 0."""
    rows = max(len(set(matrix.rows)) for matrix in matrices)
    height = 0.65 + 0.36 * rows
    figure, panels = style.make_panels(len(matrices), title, height=height, columns=across)
    for index, (axes, matrix) in enumerate(zip(panels, matrices, strict=True)):
        peers = [m for i, m in enumerate(matrices) if i % across == index % across]
        most = max((v for m in peers for v in m.values if math.isfinite(v)), default=1.0)
        _draw(axes, matrix, most)
        if index % across == 0:
            axes.set_ylabel("CPU node")
        if index >= len(matrices) - across:
            axes.set_xlabel("memory node")
    return figure


def _draw(axes: Axes, matrix: Matrix, most: float) -> None:
    rows, columns = _ordered(matrix.rows), _ordered(matrix.columns)
    axes.set_title(matrix.title)
    cells = zip(
        matrix.rows, matrix.columns, matrix.values, matrix.framed, matrix.notes, strict=True
    )
    for row, column, value, framed, note in cells:
        if not math.isfinite(value):
            continue
        x, y = columns.index(column), rows.index(row)
        edge = style.INK if framed else "#eeeeee"
        box = Rectangle(
            (x - 0.475, y - 0.46), 0.95, 0.92, facecolor=_WHITE_BLUE(value / most),
            edgecolor=edge, linewidth=1.6 if framed else 0.6, zorder=3 if framed else 2,
        )  # fmt: skip
        axes.add_patch(box)
        text = style.format_number(value)
        if note and len(columns) <= _ROOM:
            text += f" ({note})"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, zorder=4)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _ordered(names: Sequence[str]) -> list[str]:
    """Node numbers in order, words last."""
    return sorted(set(names), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n))
