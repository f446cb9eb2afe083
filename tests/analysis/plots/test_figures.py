"""Figures of whole analyses: honest axes, units, no overlaps, the right ones for the runs."""

from __future__ import annotations

import functools
import itertools
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from numa_bench.analysis.plots import effects as plots_effects
from numa_bench.analysis.plots import machine as plots_machine
from numa_bench.analysis.plots import shape as plots_shape
from numa_bench.analysis.plots import style
from numa_bench.analysis.report.figures import draw_figures
from numa_bench.machine.model import Topology
from tests import machines
from tests.analyses import KINDS, analysed
from tests.fake_scenarios import server8

pytestmark = pytest.mark.slow

Drawn = dict[str, tuple[str, Figure]]


@functools.cache
def drawn(kind: str) -> Drawn:
    """The settled figures of a kind with their captions, by stem."""
    found = {stem: (caption, figure) for stem, caption, figure in draw_figures(analysed(kind))}
    if kind in ("compile", "scaling"):  # the rest looks as it does for other kinds
        found = {stem: found[stem] for stem in (kind, "throughput")}
    for _, figure in found.values():
        style.fix_layout(figure)
    return found


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every text that is seen, with its place in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    hidden = set[Text]().union(*(not_drawn(axes) for axes in figure.axes))
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def not_drawn(axes: Axes) -> set[Text]:
    """Tick labels that matplotlib keeps but does not draw: spare ones, or outside the limits."""
    found: set[Text] = set()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        edge = 1e-9 * (high - low)
        used = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        seen = {t for t in used if axes.axison and low - edge <= t.get_loc() <= high + edge}
        for tick in {*axis.majorTicks, *axis.minorTicks} - seen:
            found |= {tick.label1, tick.label2}
    return found


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    found = []
    for (a, box_a), (b, box_b) in itertools.combinations(texts(figure), 2):
        common = Bbox.intersection(box_a, box_b)
        if common is not None and common.width > 1 and common.height > 1:
            found.append((a.get_text(), b.get_text()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_overlaps_another_or_is_cut_off(kind: str) -> None:
    for stem, (_, figure) in drawn(kind).items():
        assert overlaps(figure) == [], stem
        width, height = figure.canvas.get_width_height()
        for text, box in texts(figure):
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{stem}: {text.get_text()!r} is cut off"


@pytest.mark.parametrize("kind", KINDS)
def test_bars_start_at_zero(kind: str) -> None:
    for stem, (_, figure) in drawn(kind).items():
        for axes in figure.axes:
            for bars in axes.containers:
                assert isinstance(bars, BarContainer)
                limits = axes.get_xlim() if bars.orientation == "horizontal" else axes.get_ylim()
                assert limits[0] == 0, stem


@pytest.mark.parametrize("kind", KINDS)
def test_every_axis_of_numbers_names_its_unit(kind: str) -> None:
    for stem, (_, figure) in drawn(kind).items():
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                if axes.axison and shows_numbers(axis):
                    label = axis.get_label_text()
                    assert re.search(r"\(.+\)", label), f"{stem}: {label!r} has no unit"


def shows_numbers(axis: Axis) -> bool:
    """Whether its tick labels are values, not names."""
    low, high = sorted(axis.get_view_interval())
    labels = [
        t.label1.get_text()
        for t in axis.get_major_ticks()
        if t.label1.get_visible() and low <= t.get_loc() <= high
    ]
    return any(re.fullmatch(rf"−?[\d.]+({style.THIN}?[kMGT])?", label) for label in labels)


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_says_how_to_read_it(kind: str) -> None:
    for stem, (caption, figure) in drawn(kind).items():
        assert caption.endswith("."), stem
        assert any(text.get_fontweight() == "bold" for text, _ in texts(figure)), stem


@pytest.mark.parametrize(
    ("kind", "there", "absent"),
    [
        (
            "server8",
            {"machine", "pooled", "gpu_node_heatmap", "bandwidth", "sensors"},
            {"compile", "effects"},
        ),
        ("laptop", {"machine", "throughput", "stages", "latency"}, {"gpu_node_heatmap", "effects"}),
        ("laptop", set(), {"bandwidth", "profiler"}),
        ("one_cell", {"throughput"}, {"effects", "gpu_node_heatmap", "bandwidth"}),
        ("one_repeat", {"effects", "throughput"}, {"drift", "pooled"}),
        ("nothing_passed", {"machine"}, {"throughput", "effects", "stages", "latency", "drift"}),
        ("compile", {"compile"}, {"scaling"}),
        ("scaling", {"scaling"}, {"batch"}),
        ("settings", {"batch", "resolution", "pipeline"}, {"scaling", "compile"}),
        ("one_gpu", {"profiler", "pooled", "effects"}, {"comparison"}),
        ("before_after", {"comparison"}, set()),
    ],
)
def test_only_pictures_that_make_sense(kind: str, there: set[str], absent: set[str]) -> None:
    stems = set(drawn(kind))

    assert there <= stems
    assert not absent & stems


def visible_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text, _ in texts(figure)]


def test_every_run_is_a_dot_and_every_cell_has_a_median() -> None:
    analysis = analysed("one_gpu")
    figure = next(f for stem, _, f in draw_figures(analysis) if stem == "throughput")

    collections = [c for axes in figure.axes for c in axes.collections]
    dots = sum(len(np.asarray(c.get_offsets())) for c in collections if is_dots(c))
    medians = sum(not is_dots(c) for c in collections)

    assert dots == analysis.loaded.frame["in_statistics"].sum()
    assert medians == len(analysis.cells)


def is_dots(collection: object) -> bool:
    return type(collection).__name__ == "PathCollection"


def test_the_map_frames_local_and_shows_where_n_differs() -> None:
    _, figure = drawn("server8")["gpu_node_heatmap"]

    words = visible_texts(figure)

    assert sum(word.startswith("local") for word in words) == 2 * 8 + 1  # models, GPUs, legend
    assert sum("n=2" in word for word in words) == 3  # one run of each was left out
    assert any(word.startswith("−2") and "%" in word for word in words)


def test_what_is_not_significant_is_hatched_or_hollow() -> None:
    analysis = analysed("one_gpu")
    claimed = int(analysis.effects["claimed"].sum())
    made = {stem: figure for stem, _, figure in draw_figures(analysis)}
    assert 0 < claimed < len(analysis.effects)

    hatched = [p for axes in made["gpu_node_heatmap"].axes for p in axes.patches if p.get_hatch()]
    markers = [
        line
        for line in made["effects"].axes[0].lines
        if line.get_marker() not in ("None", "") and len(line.get_xdata()) == 1  # type: ignore[arg-type]
    ]

    assert len(hatched) == len(analysis.effects) - claimed
    assert len(markers) == len(analysis.effects)
    assert sum(m.get_markerfacecolor() != "white" for m in markers) == claimed


def test_the_zero_line_and_the_interval_are_where_the_table_has_them() -> None:
    analysis = analysed("one_gpu")
    figure = next(f for stem, _, f in draw_figures(analysis) if stem == "effects")
    axes = figure.axes[0]

    ends = {
        (round(float(x[0]), 6), round(float(x[1]), 6))
        for x in (np.asarray(line.get_xdata()) for line in axes.lines)
        if len(x) == 2
    }

    for low, high in analysis.effects[["low", "high"]].to_numpy():
        assert (round(100 * low - 100, 6), round(100 * high - 100, 6)) in ends
    assert (0, 0) in ends


def test_of_too_many_models_the_largest_changes_are_kept() -> None:
    cells = pd.DataFrame({"model_text": [f"m{i}" for i in range(20)], "median": range(20)})
    effects = pd.DataFrame({"model_text": cells["model_text"], "ratio": [1.0] * 19 + [0.5]})

    kept, note = plots_shape.select_models(cells, effects)

    assert len(kept) == style.PANELS
    assert "m19" in kept  # the largest change is never left out
    assert note == "12 of 20 models"


def test_places_are_named_shortly() -> None:
    assert plots_shape.place_name("node 2, memory 2") == "node 2"
    assert plots_shape.place_name("node 0, memory 2") == "CPUs 0\nmemory 2"
    assert plots_shape.place_name("any") == "unbound"


@pytest.mark.parametrize(
    "topology",
    [
        server8(), machines.laptop(), machines.server(), machines.unknown_gpu(),
        machines.with_memory_only_node(0), machines.with_memoryless_node(0),
    ],
)  # fmt: skip
def test_the_machine_shows_all_there_is(topology: Topology) -> None:
    figure = plots_machine.plot_machine(topology.to_dict(), "host")
    assert figure is not None

    words = visible_texts(figure)

    for node in topology.nodes:
        assert f"node {node.id}" in words
        for distance in node.distances.values():
            assert len(topology.nodes) == 1 or str(distance) in words
    for gpu in topology.gpus:
        assert f"GPU {gpu.index}" in words
    assert overlaps(figure) == []
    assert plots_machine.plot_machine({}) is None


def test_a_name_is_not_read_as_a_formula() -> None:
    """Dollar signs in a name are text, and stay so."""
    table = pd.DataFrame({"ratio": [0.9], "low": [0.8], "high": [0.95], "detectable": [0.02],
                          "claimed": [True], "placement": ["local"], "placement_text": ["any"],
                          "model_text": ["$\\frac{1}$"], "device_text": ["CPU"], "n": [5],
                          "n_base": [5]})  # fmt: skip
    figure = plots_effects.plot_comparison(table, "$x^2$")

    assert figure is not None
    assert b"PNG" in style.to_bytes(figure, "png")


def test_plots_leave_the_settings_of_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)

    made = list(draw_figures(analysed("laptop")))

    assert made
    assert dict(mpl.rcParams) == before


def test_the_same_data_makes_the_same_picture() -> None:
    analysis = analysed("laptop")

    first, second = (
        [style.to_bytes(figure, "svg") for _, _, figure in draw_figures(analysis)] for _ in range(2)
    )

    assert first == second
