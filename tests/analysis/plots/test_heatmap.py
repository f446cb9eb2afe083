"""Columns of the heat map: nodes, or placements where each GPU has its own nodes."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from matplotlib.figure import Figure

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.effects import plot_heatmap
from numa_bench.analysis.plots.shape import Part
from tests.analysis.plots.test_figures import overlaps

#: How far each placement is from its GPU.
PLACES = {"local": 10, "same_socket": 12, "local/remote": 21, "remote/local": 21, "remote": 21}


def draw(gpus: int, places: list[str]) -> Figure:
    """The map of a machine of four nodes with a GPU at each of the first ones."""
    rows = []
    for gpu, place, model in itertools.product(range(gpus), places, range(6)):
        far = {"local": gpu, "same_socket": gpu ^ 1}.get(place, (gpu + 2) % 4)
        cpus = gpu if place == "local/remote" else far
        memory = gpu if place == "remote/local" else far
        rows.append(
            {
                "cell": f"{gpu} {place} {model}", "placement": place, "n": 5, "gpu_id": gpu,
                "model_text": f"m{model}", "device_text": f"GPU {gpu} (node {gpu})",
                "numa_node": cpus, "memory_node": memory, "distance": PLACES[place],
                "placement_text": f"node {cpus}, memory {memory}", "median": 100.0,
                "metric": "throughput_samples_per_s",
            }
        )  # fmt: skip
    cells = pd.DataFrame(rows)
    effects = cells[cells["placement"] != "local"].assign(ratio=0.9, claimed=True)
    none = pd.DataFrame()
    figure = plot_heatmap(Part(cells, cells, none, effects, pooled=none, target=0.02))
    assert figure is not None
    style.fix_layout(figure)
    return figure


def columns(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_xticklabels()]


def test_gpus_with_nodes_of_their_own_have_columns_of_placements_with_their_distance() -> None:
    figure = draw(4, list(PLACES))

    assert columns(figure) == [
        "local\ndistance 10", "same_\nsocket\ndistance 12", "local/\nremote\ndistance 21",
        "remote/\nlocal\ndistance 21", "remote\ndistance 21",
    ]  # fmt: skip
    assert figure.axes[-1].get_xlabel() == "placement"


def test_one_gpu_has_columns_of_nodes_with_their_distance() -> None:
    figure = draw(1, ["local", "same_socket", "remote"])

    assert columns(figure) == ["node 0\ndistance 10", "node 1\ndistance 12", "node 2\ndistance 21"]


def test_nodes_at_several_distances_have_none() -> None:
    figure = draw(4, ["local", "same_socket", "remote"])

    assert columns(figure) == ["node 0", "node 1", "node 2", "node 3"]
    assert figure.axes[-1].get_xlabel() == "NUMA node of CPUs and memory"


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("places", [2, 3, 5])
def test_labels_do_not_overlap(gpus: int, places: int) -> None:
    assert overlaps(draw(gpus, list(PLACES)[:places])) == []
