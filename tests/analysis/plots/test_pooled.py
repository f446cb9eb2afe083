"""The figure of pooled effects: what is where, what is filled, what is named; nothing overlaps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.pooled import plot_pooled
from numa_bench.analysis.plots.pooled_lines import find_distance, find_odd_unit
from numa_bench.analysis.plots.shape import Part
from tests.analysis.plots.test_figures import overlaps, texts

SIX = {"transfer": ("a0", "a2", "a4"), "compute": ("b6", "b8", "b12")}
GPUS = tuple(f"GPU {i} (node {i // 2})" for i in range(8))
FAR = {
    "same_socket": "same socket (distance 12)",
    "local/remote": "CPUs: same node (distance 10), memory: other socket (distance 32)",
    "remote/local": "CPUs: other socket (distance 32), memory: same node (distance 10)",
    "remote": "other socket (distance 32)",
}


def pooled_effects(
    bounds: Mapping[str, Sequence[str]],
    places: Iterable[str] = FAR,
    units: Sequence[str] = GPUS,
    gpus: bool = True,
) -> pd.DataFrame:
    """A table as `stats.pooled.table` makes it: remote memory costs what transfer bounds 7 %."""
    rows = []
    for place, (bound, models) in itertools.product(places, bounds.items()):
        costs = bound == "transfer" and place in ("remote", "local/remote")
        row = {
            "group": "g", "metric": "throughput_samples_per_s", "bound": bound, "placement": place,
            "distance_text": FAR.get(place, ""), "repeats": 5, "ratio": 0.93 if costs else 1.002,
            "low": 0.926 if costs else 0.995, "high": 0.934 if costs else 1.009,
            "claimed": costs, "equal": not costs,
        }  # fmt: skip
        every = {"units": len(units), "unit_text": ", ".join(units)}
        rows.append(row | every | {"level": "bound", "models": tuple(models)})
        if len(models) > 1:
            rows += [row | every | {"level": "model", "models": (m,)} for m in models]
        if len(units) > 1:
            single = row | {"level": "unit", "models": tuple(models), "units": 1}
            rows += [single | {"unit_text": unit} for unit in units]
    table = pd.DataFrame(rows)
    return table.assign(
        model_text=table["models"].map(", ".join), gpus=table["units"] if gpus else 0
    )


def draw(table: pd.DataFrame, target: float = 0.02) -> Figure:
    none = pd.DataFrame()
    figure = plot_pooled(Part(none, none, none, none, pooled=table, target=target))
    assert figure is not None
    style.fix_layout(figure)
    return figure


def markers(axes: Axes, marker: str) -> list[tuple[float, str]]:
    """Change in percent and fill of each marker of a kind, from top to bottom."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    single = [line for line in lines if len(np.asarray(line.get_xdata())) == 1]
    single.sort(key=lambda line: float(np.asarray(line.get_ydata())[0]))
    return [
        (round(float(np.asarray(line.get_xdata())[0]), 6), str(line.get_markerfacecolor()))
        for line in single
    ]


def labels_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_a_panel_per_placement_and_a_line_per_model_below_its_group() -> None:
    figure = draw(pooled_effects(SIX))

    assert [axes.get_title(loc="left") for axes in figure.axes] == list(FAR)  # near before far
    assert labels_of(figure.axes[0]) == [
        "bound by transfer, 3 models", "a0", "a2", "a4",
        "bound by compute, 3 models", "b6", "b8", "b12",
    ]  # fmt: skip
    assert all(set(labels_of(axes)) == {""} for axes in figure.axes[1:])
    words = [text.get_text() for text, _ in texts(figure)]
    assert "memory on the other socket,\nCPUs local (distance 32)" in words
    assert "pooled over 8 GPUs × 5 repeats" in words[-1] + " ".join(words)


def test_claimed_effects_are_filled_and_others_hollow() -> None:
    remote, near = draw(pooled_effects(SIX, ("remote", "remote/local"))).axes[::-1]

    transfer, compute = markers(remote, "D")
    assert transfer[0] == pytest.approx(-7.0)
    assert transfer[1] != "white"
    assert compute == (0.2, "white")
    assert {fill for _, fill in markers(near, "D") + markers(near, "o")} == {"white"}


def test_intervals_band_and_zero_line_are_where_the_table_has_them() -> None:
    axes = draw(pooled_effects(SIX, ("remote",)), target=0.03).axes[0]

    spans = {tuple(np.round(np.asarray(line.get_xdata(), float), 6)) for line in axes.lines}
    assert {(-7.4, -6.6), (-0.5, 0.9), (0, 0)} <= spans
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == (pytest.approx(-3), pytest.approx(3))


def test_each_unit_is_a_dot_and_the_odd_one_has_its_name() -> None:
    table = pooled_effects(SIX, ("remote",))
    odd = (table["level"] == "unit") & (table["unit_text"] == GPUS[6])
    odd &= table["bound"] == "compute"
    table.loc[odd, ["ratio", "low", "high"]] = 0.9, 0.89, 0.91

    figure = draw(table)

    dots = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata())) == len(GPUS)]
    assert [round(min(np.asarray(line.get_xdata())), 6) for line in dots] == [-7, -10]
    assert [t.get_text() for t, _ in texts(figure)].count("GPU 6") == 1
    assert overlaps(figure) == []


@pytest.mark.parametrize(
    ("ratio", "low", "high", "named"),
    [
        (0.9, 0.89, 0.91, True),
        (0.9, 0.8, 1.01, False),  # its interval holds the pooled effect
        (0.985, 0.98, 0.99, False),  # nearer than the effect of interest
        (1.05, 1.04, 1.06, True),
    ],
)
def test_a_unit_is_odd_only_if_it_is_known_to_be_far(
    ratio: float, low: float, high: float, named: bool
) -> None:
    units = [{"ratio": 1.0, "low": 0.99, "high": 1.01, "unit_text": "GPU 0"}]
    units.append({"ratio": ratio, "low": low, "high": high, "unit_text": "GPU 1"})

    odd = find_odd_unit({"ratio": 1.0}, units, 0.02)

    assert (odd is units[1]) == named
    assert odd is None or named


def test_a_group_of_one_model_has_its_name() -> None:
    figure = draw(pooled_effects({"transfer": ("a0",), "compute": ("b6", "b8")}, ("remote",)))

    assert labels_of(figure.axes[0]) == [
        "a0\nbound by transfer", "bound by compute, 2 models", "b6", "b8",
    ]  # fmt: skip


def test_of_too_many_models_only_groups_are_drawn() -> None:
    many = {"transfer": [f"a{i}" for i in range(30)], "compute": [f"b{i}" for i in range(30)]}

    figure = draw(pooled_effects(many, ("remote",)))

    assert len(labels_of(figure.axes[0])) == 2
    assert figure.legends[0].get_title().get_text() == "single models are in the table"


def test_an_interval_longer_than_the_axis_ends_in_an_arrow() -> None:
    table = pooled_effects({"transfer": ("a0",)}, ("remote",), GPUS[:1])
    table[["low", "high"]] = 0.2, 4.0

    axes = draw(table).axes[0]

    assert markers(axes, "<")
    assert markers(axes, ">")
    assert max(map(abs, axes.get_xlim())) < 50


LONG = tuple(f"vit_large_patch14_reg4_dinov2.lvd142m_variant_{i}" for i in range(12))


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        pooled_effects(SIX),
        pooled_effects({"transfer": LONG}),
        pooled_effects({"transfer": LONG[:1], "host": LONG[1:2], "": LONG[2:]}, units=GPUS[:1]),
        pooled_effects({"": ("a", "b")}, ("remote",), ("node 0", "node 1"), gpus=False),
        pooled_effects(
            SIX, [*FAR, "unbound", "remote_2_hops", "local (core-complex)", "interleave"]
        ),
    ],
    ids=["study", "long names", "one GPU", "nodes", "eight placements"],
)
def test_nothing_overlaps_or_is_cut_off(table: pd.DataFrame) -> None:
    figure = draw(table)

    assert overlaps(figure) == []
    width, height = figure.canvas.get_width_height()
    for text, box in texts(figure):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, text.get_text()
        assert float(text.get_fontsize()) >= 8, text.get_text()


def test_the_title_names_nodes_without_a_gpu_and_the_gpu_where_there_is_one() -> None:
    nodes = draw(pooled_effects(SIX, ("remote",), ("node 0", "node 1"), gpus=False))
    one = draw(pooled_effects(SIX, ("remote",), GPUS[:1]))

    assert nodes.get_suptitle().endswith("pooled over 2 nodes × 5 repeats")
    assert one.get_suptitle().endswith("GPU 0 (node 0), 5 repeats")


def test_without_pooled_effects_there_is_no_figure() -> None:
    none = pd.DataFrame()

    assert plot_pooled(Part(none, none, none, none, pooled=none, target=0.02)) is None


def test_the_greatest_distance_of_a_text_counts() -> None:
    assert find_distance(FAR["local/remote"]) == "distance 32"
    assert find_distance("") == ""
