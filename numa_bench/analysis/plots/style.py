"""One look for all plots: colours, markers, hatches, text sizes, number formats.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), some made darker or greyer so
that each also has a lightness of its own; a marker or a hatch always repeats what colour encodes.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from numa_bench.labels import split_hops

P = ParamSpec("P")
R = TypeVar("R")

#: Inches. On the page one inch is 96 CSS pixels: the widest figure fills its column.
WIDTH = 11.0
#: Most panels of small multiples. Chosen for readability.
PANELS = 12
#: Most characters of the title of a panel where three panels are side by side.
PANEL_TITLE = 29
#: PNG resolution: 1.5 pixels per CSS pixel, sharp on common high-density displays.
DPI = 144
MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
INK, QUIET, FAINT = "#1a1a1a", "#595959", "#d9d9d9"

#: Keys are typed differently from one version of matplotlib to the next.
_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "hatch.color": "#333333",
    "hatch.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # Ids in an SVG are random without it, and its bytes different each time.
    "svg.hashsalt": "numa_bench",
    # A dollar sign in the name of a model or file is no formula.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}


#: A line style of matplotlib: a name, or an offset and lengths of strokes and gaps.
Dashes = Literal["-", "--", "-.", ":"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How one thing is drawn everywhere."""

    color: str
    marker: str
    hatch: str
    line: Dashes = "-"


#: By placement label; see docs/reading-results.md for what the labels mean.
PLACEMENTS = {
    "local": Look("#0072B2", "o", ""),
    "same_socket": Look("#8F368F", "p", "ooo", (0, (3, 1))),
    "local/same_socket": Look("#280061", "<", "**", (0, (5, 2, 1, 2))),
    "same_socket/local": Look("#003C41", ">", "OO", (0, (2, 2, 1, 2))),
    "local/remote": Look("#F0E442", "s", "...", "-."),
    "remote/local": Look("#7A3500", "v", "\\\\\\", ":"),
    "remote": Look("#E69F00", "^", "///", "--"),
    "mixed": Look("#D55E00", "8", "|||", (0, (6, 1, 3, 1))),
    "interleave": Look("#00A97B", "D", "xxx", (0, (5, 1, 1, 1, 1, 1))),
    "unbound": Look("#000000", "X", "++", (0, (1, 1))),
    "unknown": Look("#C6C6C6", "P", "---", (0, (8, 3))),
}
STAGES = {
    "host_ms": ("host work", Look("#CC79A7", "", "xx")),
    "h2d_ms": ("H2D copy", Look("#56B4E9", "", "///")),
    "compute_ms": ("compute", Look("#E69F00", "", "")),
    "d2h_ms": ("D2H copy", Look("#009E73", "", "...")),
}
#: For things without a look of their own (GPUs, models), in this order.
SERIES = (
    Look("#0072B2", "o", "", "-"),
    Look("#E69F00", "^", "", "--"),
    Look("#000000", "s", "", ":"),
    Look("#009E73", "D", "", "-."),
    Look("#CC79A7", "v", "", "-"),
    Look("#56B4E9", "P", "", "--"),
    Look("#D55E00", "X", "", ":"),
    Look("#7A7A7A", "<", "", "-."),
)


#: Markers of CPU affinities, which keep the colour of the placement.
_AFFINITY_MARKERS = {"socket": "d", "exclusive": "h", "core-complex": "*", "physcpu": "8"}


def get_placement_style(placement: str) -> Look:
    """The look of a placement label; other labels look like "unknown".

    A CPU affinity in brackets changes marker, hatch and line; two hops or more between sockets
    change hatch and line.
    """
    plain, _, affinity = placement.partition(" (")
    base, hops = _split_label(plain)
    look = PLACEMENTS.get(base, PLACEMENTS["unknown"])
    if hops > 1:
        look = replace(look, hatch=look.hatch + "--" * (hops - 1), line=(0, (1, hops)))
    if not affinity:
        return look
    mode = affinity.rstrip(")").partition(" ")[0].removesuffix("-no-smt")
    return replace(look, marker=_AFFINITY_MARKERS.get(mode, "H"), hatch=look.hatch + "|", line=":")


def order_placements(labels: Iterable[str]) -> list[str]:
    """Labels, each once, local first, near before far; after each those with a CPU affinity."""
    known = {label: place for place, label in enumerate(PLACEMENTS)}

    def order(label: str) -> tuple[int, int, str]:
        base, hops = _split_label(label.partition(" (")[0])
        return known.get(base, len(known)), hops, label

    return sorted(set(labels), key=order)


def _split_label(label: str) -> tuple[str, int]:
    """A label without hops, and the most hops of its sides: ("local/remote", 2)."""
    sides = [split_hops(side) for side in label.split("/")]
    return "/".join(side for side, _ in sides), max(hops for _, hops in sides)


def with_style(build: Callable[P, R]) -> Callable[P, R]:
    """Run a function that makes or saves figures under this style."""

    @functools.wraps(build)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_RC):
            return build(*args, **kwargs)

    return run


@with_style
def fix_layout(figure: Figure) -> None:
    """Compute the layout once, so that each file is drawn with the same and without delay."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


@with_style
def to_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as a file, "png" or "svg": the same bytes each time."""
    out = io.BytesIO()
    # Dates and versions would make files of equal pictures differ.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(out, format=kind, dpi=DPI, metadata=metadata)
    return out.getvalue()


def make_figure(height: float, width: float = WIDTH, title: str = "") -> Figure:
    """An empty figure of this style; size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def make_panels(
    count: int, title: str, *, height: float = 2.8, columns: int = 3, share_x: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most `columns` in a row, `height` inches each."""
    across = min(columns, count)
    down = math.ceil(count / across)
    width = WIDTH if across > 1 else WIDTH * 0.75
    figure = make_figure(down * height + 0.9, width, title)
    grid = figure.subplots(down, across, squeeze=False, sharex=share_x)
    flat = list(grid.flat)
    for spare in flat[count:]:
        spare.remove()
    if share_x and count < len(flat):
        for axes in flat[count - across : count]:
            axes.tick_params(labelbottom=True)
    return figure, flat[:count]


def add_legend(figure: Figure, handles: list[Line2D], columns: int = 7) -> None:
    """A legend below all panels, so that it covers nothing."""
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=min(columns, len(handles)),
            handletextpad=0.5,
        )


def legend_entry(label: str, kind: Look, *, line: bool = False) -> Line2D:
    """A legend entry."""
    return Line2D(
        [], [], color=kind.color, marker=kind.marker, linestyle=kind.line if line else "none",
        markeredgecolor=INK, markeredgewidth=0.6, markersize=7, label=label,
    )  # fmt: skip


def set_zero_based(axes: Axes, direction: str, most: float) -> None:
    """Start an axis of bars, or of amounts, at 0 with some air above the greatest value."""
    top = most * 1.08 if most > 0 else 1.0
    if direction == "x":
        axes.set_xlim(0, top)
    else:
        axes.set_ylim(0, top)


def shorten_middle(text: object, most: int = 30) -> str:
    """One line of at most `most` characters; the middle is left out of longer ones."""
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return f"{line[: most - 1 - tail]}…{line[-tail:]}"


def format_percent(change: float, digits: int = 1, sign: bool = True) -> str:
    """A fraction as per cent, as in "−7.2 %"."""
    if not math.isfinite(change):
        return "not measured"
    # + 0.0 turns -0.0 into 0.0.
    value = round(100 * change, digits) + 0.0
    text = f"{abs(value):.{digits}f}{THIN}%"
    mark = MINUS if value < 0 else "+" if sign and value > 0 else ""
    return mark + text


def format_number(value: float, digits: int = 3) -> str:
    """A number with SI prefix from a thousand on, `digits` significant: "12.3 k", "0.456"."""
    if not math.isfinite(value):
        return "not measured"
    if value == 0:
        return "0"
    # Rounded before the prefix is chosen: 999.9 is 1.00 k.
    rounded = abs(float(f"{value:.{digits}g}"))
    scale = max(0, min(4, math.floor(math.log10(rounded) / 3)))
    scaled = rounded / 1000**scale
    whole = len(str(int(scaled)))
    text = f"{scaled:.{max(0, digits - whole)}f}" if scaled >= 1 else f"{scaled:.{digits}g}"
    unit = ("", "k", "M", "G", "T")[scale]
    return (MINUS if value < 0 else "") + text + (f"{THIN}{unit}" if unit else "")


def format_tick(value: float) -> str:
    """A number at an axis: as `format_number`, without trailing zeros."""
    text, gap, unit = format_number(value, 4).partition(THIN)
    return (text.rstrip("0").rstrip(".") if "." in text else text) + gap + unit
