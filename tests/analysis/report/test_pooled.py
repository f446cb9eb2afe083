"""Pooled effects lead page and terminal; single GPUs and comparisons are one click away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.report.blocks import Block, Picture
from numa_bench.analysis.report.page import render_page
from numa_bench.analysis.report.placement import build_placement
from numa_bench.analysis.report.pooled import describe_outcome, pooled_table, select_levels
from numa_bench.analysis.report.terminal import print_analysis
from tests.analyses import analysed, reported


def pictures(*stems: str) -> list[Picture]:
    return [Picture(stem, "caption", "data:", 10, 10) for stem in stems]


def describe(blocks: Sequence[Block]) -> list[str]:
    """Of each block its label if it is collapsed, and what it shows."""
    return [
        " ".join(
            [*([f"({b.closed})"] if b.closed else []), *(p.stem for p in b.pictures)]
            + (["table"] if b.table else [])
        )
        for b in blocks
    ]


@pytest.mark.slow
def test_the_section_opens_with_pooled_effects_and_collapses_the_rest() -> None:
    analysis = analysed("server8")
    units = int((analysis.pooled["level"] == "unit").sum())

    assert describe(list(build_placement(analysis, pictures))) == [
        "pooled",
        "table",
        f"(Each GPU by itself: {units} effects) table",
        "(Map of devices and nodes) gpu_node_heatmap",
        "(All 48 comparisons with local) effects table",
    ]


@pytest.mark.slow
def test_many_models_are_collapsed_below_their_groups() -> None:
    analysis = analysed("server8")
    models = pd.concat([analysis.pooled.assign(level="model", model_text=f"m{i}") for i in "abc"])
    many = replace(analysis, pooled=pd.concat([analysis.pooled, models], ignore_index=True))

    blocks = list(build_placement(many, pictures))

    assert blocks[1].table is not None
    assert len(blocks[1].table.rows) == 4  # two groups of models, two placements
    assert blocks[2].closed == f"Each model over all GPUs: {len(models)} effects"


@pytest.mark.slow
def test_without_pooled_effects_comparisons_are_open() -> None:
    blocks = list(build_placement(analysed("one_repeat"), pictures))

    assert describe(blocks) == ["gpu_node_heatmap", "effects table"]
    assert blocks[1].folded == "All 2 comparisons with local"


class _Order(HTMLParser):
    """Ids of sections in their order, and of each picture whether it is collapsed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.collapsed: dict[str, bool] = {}
        self.depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values: dict[str, Any] = dict(attrs)
        self.depth += tag == "details"
        if tag == "section" and "id" in values:
            self.sections.append(values["id"])
        label = str(values.get("aria-label", ""))
        if label.startswith("Picture: "):
            self.collapsed[label.removeprefix("Picture: ")] = self.depth > 0

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "details"


@pytest.mark.slow
def test_the_page_has_advice_then_placement_then_the_machine(tmp_path: Path) -> None:
    shown = pictures("machine", "pooled", "gpu_node_heatmap", "effects")
    page = _Order(render_page(analysed("one_gpu"), shown, tmp_path))

    assert page.sections[:4] == ["advice", "placement", "machine", "measured"]
    assert next(iter(page.collapsed)) == "pooled"
    collapsed = {stem for stem, inside in page.collapsed.items() if inside}
    assert collapsed == {"gpu node heatmap", "effects"}
    assert page.depth == 0


@pytest.mark.parametrize(
    ("claimed", "equal", "ratio", "p_holm", "words"),
    [
        (True, False, 0.9, 0.001, "slower"),
        (True, False, 1.1, 0.001, "faster"),
        (True, True, 0.995, 0.01, "slower, by less than 2 %"),
        (False, True, 1.0, 1.0, "equal within 2 %"),
        (False, False, 0.97, 0.2, "no difference found"),
        (False, False, 0.97, float("nan"), "too few runs"),
    ],
)
def test_outcomes_are_words(
    claimed: bool, equal: bool, ratio: float, p_holm: float, words: str
) -> None:
    row = {"claimed": claimed, "equal": equal, "ratio": ratio, "p_holm": p_holm, "held_back": ""}

    assert describe_outcome(row, 0.02).replace("\N{NARROW NO-BREAK SPACE}", " ") == words


@pytest.mark.slow
def test_rows_are_ordered_by_what_bounds_the_models_then_from_near_to_far() -> None:
    pooled = analysed("server8").pooled.iloc[::-1]

    rows = select_levels(pooled, "bound", "model")

    assert list(rows["bound"]) == ["transfer"] * 2 + ["compute"] * 2
    assert list(rows["placement"]) == ["same_socket", "remote"] * 2


@pytest.mark.slow
def test_a_row_names_the_first_of_many_models() -> None:
    pooled = analysed("server8").pooled
    names = ", ".join(f"m{i}" for i in range(300))
    rows = select_levels(pooled, "bound").head(1).assign(model_text=names)

    table = pooled_table(rows, 0.02)

    assert table.rows[0][0].text == "m0, m1, m2, m3, m4 and 295 more"


def test_the_table_has_what_a_reader_repeats() -> None:
    analysis = analysed("server8")

    table = pooled_table(select_levels(analysis.pooled, "bound"), 0.02)

    labels = [column.label for column in table.columns]
    remote = dict(zip(labels, (cell.text for cell in table.rows[1]), strict=True))
    assert labels[:5] == ["models", "bound by", "placement", "distance", "outcome"]
    assert remote["placement"] == "remote"
    assert remote["distance"] == "32"
    assert remote["outcome"] == "slower"
    row = select_levels(analysis.pooled, "bound").to_dict("records")[1]
    low, high = 100 - 100 * row["low"], 100 - 100 * row["high"]
    assert remote["GPUs × repeats"] == f"{row['units']} × 3"
    assert remote["95 % interval"].startswith(f"−{low:.1f} to −{high:.1f}")


@pytest.mark.slow
def test_pooled_effects_can_be_read_again() -> None:
    written = pd.read_csv(reported("server8").page.parent / "tables/pooled.csv")

    pooled = analysed("server8").pooled
    assert written["ratio"].tolist() == pytest.approx(pooled["ratio"].tolist())
    assert set(written["level"]) == {"bound", "unit"}
    assert written["model_text"].tolist() == pooled["model_text"].tolist()


def printed(kind: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    print_analysis(analysed(kind), directory)
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_terminal_shows_pooled_effects_and_counts_the_single_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed("server8", tmp_path, capsys)

    assert "throughput against local, pooled over GPUs" in text
    assert "remote (distance 32)" in text
    assert "48 single comparisons with local are on the page" in text
    assert "GPU 3" not in text.partition("pooled over GPUs")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pooled", "single"),
    [
        ("cpu_nodes", True, True),  # several nodes, few comparisons
        ("one_gpu", True, False),  # the same effects, pooled over nothing else
        ("one_repeat", False, True),
        ("one_cell", False, False),
    ],
)
def test_single_comparisons_are_printed_where_they_add_something(
    kind: str, pooled: bool, single: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(kind, tmp_path, capsys)

    assert ("outcome" in text) == pooled
    assert ("marks" in text) == single
