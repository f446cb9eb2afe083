"""The machine: nodes with their CPUs and memory, GPUs at their node, distances."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from numa_bench.analysis.plots import style
from numa_bench.records import JsonDict

#: All in inches: the axes' units are inches, so that the layout can be computed beforehand.
_BOX, _GAP, _MARGIN, _HEAD = 2.05, 0.2, 0.2, 0.75
_NODE_HEIGHT, _GPU_WIDTH, _GPU_HEIGHT, _LINE = 1.2, 0.93, 0.36, 0.24
#: Most nodes in a row: the four of a two-socket server with two nodes per socket fit in one.
_PER_ROW = 4


@style.with_style
def plot_machine(topology: JsonDict, host: str = "") -> Figure | None:
    """Draw a topology.json; None where it has no nodes."""
    nodes = [n for n in topology.get("nodes") or () if isinstance(n, dict)]
    if not nodes:
        return None
    gpus = [g for g in topology.get("gpus") or () if isinstance(g, dict)]
    ids = [int(n["id"]) for n in nodes]
    without_node = [g for g in gpus if g.get("numa_node") not in ids]
    rows = [nodes[i : i + _PER_ROW] for i in range(0, len(nodes), _PER_ROW)]
    stock = max((_stock(gpus, n) for n in ids), default=0.0)
    row_height = _NODE_HEIGHT + stock + 0.3
    side = _matrix_size(len(nodes))
    beside = len(rows) == 1
    width = _MARGIN + len(rows[0]) * (_BOX + _GAP) + (side + 0.6 if side and beside else 0)
    lost = _GPU_HEIGHT + 0.45 if without_node else 0
    below = side + 0.3 if side and not beside else 0
    height = _HEAD + max(len(rows) * row_height, side if beside else 0) + lost + below
    width = max(width, 6.0)
    figure = style.make_figure(height, width)
    # Everything is placed in inches here; an engine would move it.
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    _text(axes, _MARGIN, height - 0.25, _title(nodes, host), size=13, weight="bold")
    _text(axes, _MARGIN, height - 0.52, _gpu_names(gpus), size=9, color=style.QUIET)
    top = height - _HEAD
    for r, row in enumerate(rows):
        for c, node in enumerate(row):
            left = _MARGIN + c * (_BOX + _GAP)
            _node(axes, left, top - r * row_height, node, gpus)
    bottom = top - len(rows) * row_height
    if without_node:
        _text(axes, _MARGIN, bottom - 0.05, "GPUs whose node is unknown to the kernel", size=9)
        _gpu_boxes(axes, _MARGIN, bottom - 0.22, without_node, across=10)
    if side:
        left = _MARGIN + len(rows[0]) * (_BOX + _GAP) + 0.4 if beside else _MARGIN + 0.4
        _matrix(axes, left, top if beside else bottom - lost - 0.1, nodes)
    return figure


def _title(nodes: Sequence[JsonDict], host: str) -> str:
    count = f"{len(nodes)} NUMA node" + ("s" if len(nodes) > 1 else "")
    return f"{style.shorten_middle(host, 40)}: {count}" if host else count


def _gpu_names(gpus: Sequence[JsonDict]) -> str:
    if not gpus:
        return "no GPU"
    names = Counter(style.shorten_middle(g.get("name") or "GPU without a name", 36) for g in gpus)
    return ", ".join(f"{count} × {name}" for name, count in list(names.items())[:2])


def _stock(gpus: Sequence[JsonDict], node: int) -> float:
    """Height that the GPUs of a node take."""
    count: int = sum(g.get("numa_node") == node for g in gpus)
    return math.ceil(count / 2) * (_GPU_HEIGHT + 0.1) + (0.2 if count else 0.0)


def _node(axes: Axes, left: float, top: float, node: JsonDict, gpus: Sequence[JsonDict]) -> None:
    mine = [g for g in gpus if g.get("numa_node") == node["id"]]
    bottom = top - _NODE_HEIGHT
    box = FancyBboxPatch(
        (left, bottom), _BOX, _NODE_HEIGHT, boxstyle="round,pad=0,rounding_size=0.07",
        facecolor="#eef3f8", edgecolor=style.PLACEMENTS["local"].color, linewidth=1.4,
    )  # fmt: skip
    axes.add_patch(box)
    lines = _node_lines(node)
    _text(axes, left + 0.12, top - 0.2, f"node {node['id']}", size=11, weight="bold")
    for i, line in enumerate(lines):
        _text(axes, left + 0.12, top - 0.45 - i * _LINE, line, size=9)
    if mine:
        _links(axes, left + _BOX / 2, bottom, len(mine))
        _gpu_boxes(axes, left, bottom - 0.2, mine, across=2)


def _links(axes: Axes, middle: float, bottom: float, count: int) -> None:
    """Lines from a node to its GPUs: down between the two columns, and to both sides."""
    rows = [bottom - 0.2 - r * (_GPU_HEIGHT + 0.1) for r in range(math.ceil(count / 2))]
    end = rows[-1] - (_GPU_HEIGHT / 2 if count > 1 else 0)
    axes.plot([middle] * 2, [bottom, end], color=style.INK, linewidth=1.4)
    gap = _BOX / 2 - _GPU_WIDTH
    for i in range(count if count > 1 else 0):
        y = rows[i // 2] - _GPU_HEIGHT / 2
        axes.plot([middle, middle + (gap if i % 2 else -gap)], [y, y], color=style.INK, lw=1.4)


def _gpu_boxes(axes: Axes, left: float, top: float, gpus: Sequence[JsonDict], across: int) -> None:
    for i, gpu in enumerate(gpus):
        x = left + (i % across) * (_GPU_WIDTH + 0.19)
        y = top - (i // across) * (_GPU_HEIGHT + 0.1) - _GPU_HEIGHT
        if len(gpus) == 1 and across == 2:
            x = left + (_BOX - _GPU_WIDTH) / 2
        box = Rectangle(
            (x, y), _GPU_WIDTH, _GPU_HEIGHT, facecolor="white", edgecolor=style.INK, linewidth=1.2
        )
        axes.add_patch(box)
        axes.text(
            x + _GPU_WIDTH / 2, y + _GPU_HEIGHT / 2, f"GPU {gpu.get('index', '?')}",
            ha="center", va="center_baseline", fontsize=9.5, weight="bold",
        )  # fmt: skip


def _node_lines(node: JsonDict) -> list[str]:
    cpus = [int(c) for c in node.get("cpus") or ()]
    lines = [f"{len(cpus)} CPUs: {_ranges(cpus)}" if cpus else "no CPUs"]
    memory = node.get("memory_bytes") or 0
    lines.append(f"{memory / 2**30:.0f} GiB memory" if memory else "no memory")
    cache = node.get("llc_bytes")
    lines.append(f"{cache / 2**20:.0f} MiB last-level cache" if cache else "cache unknown")
    return [style.shorten_middle(line, 27) for line in lines]


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as the kernel writes them: 0-3,8."""
    parts: list[str] = []
    start = previous = numbers[0]
    for n in [*numbers[1:], None]:
        if n is None or n != previous + 1:
            parts.append(str(start) if start == previous else f"{start}-{previous}")
            start = n if n is not None else start
        previous = n if n is not None else previous
    return ",".join(parts)


def _matrix_size(nodes: int) -> float:
    """Side of the table of distances, its labels included; 0 for one node."""
    return 0.0 if nodes < 2 else nodes * _cell(nodes) + 0.75


def _cell(nodes: int) -> float:
    return 0.42 if nodes <= 8 else 0.34


def _matrix(axes: Axes, left: float, top: float, nodes: Sequence[JsonDict]) -> None:
    cell = _cell(len(nodes))
    ids = [str(n["id"]) for n in nodes]
    _text(axes, left - 0.3, top - 0.08, "distance, 10 = local", size=9, weight="bold")
    known = [float(d) for n in nodes for d in _distances(n).values()]
    # 11 at least, because shades are relative to most - 10.
    most = max([*known, 11.0])
    for r, node in enumerate(nodes):
        y = top - 0.5 - (r + 1) * cell
        axes.text(left - 0.08, y + cell / 2, ids[r], ha="right", va="center", fontsize=9)
        axes.text(left + (r + 0.5) * cell, top - 0.45, ids[r], ha="center", va="bottom", fontsize=9)
        for c, other in enumerate(ids):
            value = _distances(node).get(other)
            shade = 1 - 0.45 * ((float(value) - 10) / (most - 10) if value is not None else 0)
            axes.add_patch(
                Rectangle(
                    (left + c * cell, y),
                    cell,
                    cell,
                    facecolor=(shade,) * 3,
                    edgecolor="white",
                    linewidth=1.5,
                )
            )
            axes.text(
                left + (c + 0.5) * cell, y + cell / 2, "?" if value is None else f"{value:.0f}",
                ha="center", va="center", fontsize=9 if len(ids) <= 8 else 7.5,
            )  # fmt: skip


def _distances(node: JsonDict) -> Mapping[str, float]:
    distances = node.get("distances")
    return {str(k): v for k, v in distances.items()} if isinstance(distances, dict) else {}


def _text(
    axes: Axes, x: float, y: float, text: str, *, size: float, weight: str = "normal",
    color: str = style.INK,
) -> None:  # fmt: skip
    axes.text(x, y, text, fontsize=size, weight=weight, color=color, va="center")
