"""A question is one file: the registry finds it, and the page shows its table and figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis import questions
from numa_bench.analysis.questions.base import ColumnSpec
from numa_bench.analysis.questions.registry import load_questions
from numa_bench.analysis.report.columns import FORMATS, build_column
from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.study_analysis import analyse_study
from tests.analyses import analysed

MADE_UP = """
import pandas as pd
from matplotlib.figure import Figure

from numa_bench.analysis.questions.base import ColumnSpec, Question


def count_hosts(frame):
    return frame.drop_duplicates("group")[["group", "placement", "host"]].assign(rate=1234.5)


def plot_hosts(table):
    figure = Figure(figsize=(4, 2))
    figure.add_subplot().set_title("hosts " + ", ".join(table["host"]))
    return figure


QUESTION = Question(
    key="{key}",
    title="Which hosts were used?",
    order=25,
    make_table=count_hosts,
    columns=(ColumnSpec("host", "host name"), ColumnSpec("rate", "made-up rate", "number")),
    plot_figure=plot_hosts,
    caption="A caption of hosts.",
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules belong to the room of questions."""
    monkeypatch.setattr(questions, "__path__", [*questions.__path__, str(tmp_path)])
    load_questions.cache_clear()
    yield tmp_path
    load_questions.cache_clear()


def test_questions_come_in_the_order_of_the_page() -> None:
    keys = [
        *("limits", "command_variants", "compile", "command_memory", "command_metrics"),
        *("scaling", "batch", "resolution", "pipeline", "bandwidth"),
        *("link_matrix", "link_curves", "link_latency", "contention"),
    ]

    assert list(load_questions()) == keys


@pytest.mark.slow
def test_one_new_file_gives_a_table_a_picture_and_a_caption(folder: Path) -> None:
    (folder / "made_up_hosts.py").write_text(MADE_UP.replace("{key}", "hosts"))
    laptop = analysed("laptop")

    analysis = analyse_study(
        "hosts",
        laptop.loaded,
        profiles=pd.DataFrame(),
        target=0.02,
        seed=0,
        created=laptop.created,
        command="",
    )
    report = write_report(analysis, folder / "report")

    host = laptop.loaded.frame["host"].iloc[0]
    keys = list(load_questions())
    # Between those of order 20 and 30.
    assert keys.index("scaling") < keys.index("hosts") < keys.index("batch")
    assert analysis.questions["hosts"]["host"].tolist() == [host]
    assert pd.read_csv(report.page.parent / "tables" / "hosts.csv")["rate"].tolist() == [1234.5]
    assert (report.page.parent / "plots" / "hosts.svg").is_file()
    page = report.page.read_text(encoding="utf-8")
    for text in ("Which hosts were used?", "host name", "made-up rate", "1.23\u202fk"):
        assert text in page
    assert "<figcaption>A caption of hosts.</figcaption>" in page


def test_two_questions_with_one_key_are_an_error(folder: Path) -> None:
    (folder / "made_up_twice.py").write_text(MADE_UP.replace("{key}", "batch"))

    with pytest.raises(ValueError, match="another question already has the key batch"):
        load_questions()


def test_every_format_of_a_column_has_a_cell() -> None:
    row = {"value": 0.25, "high": 0.5, "name": "a"}

    for name in FORMATS:
        column = build_column(ColumnSpec("value", "v", name))  # type: ignore[arg-type]
        assert column.numeric
        assert column.cell(row).value == 0.25
    interval = build_column(ColumnSpec("value", "v", "two_decimals", high_key="high"))
    assert interval.cell(row).text == "0.25 to 0.50"
    assert build_column(ColumnSpec("name", "n")).cell(row).text == "a"
    assert build_column(ColumnSpec("absent", "n", "share")).cell(row).text == "–"


@pytest.mark.slow
def test_questions_use_columns_that_their_tables_have() -> None:
    """A misspelt key would show as an empty column, which the page leaves out."""
    for kind in ("compile", "scaling", "settings", "server8"):
        for key, table in analysed(kind).questions.items():
            keys = {c.key for c in load_questions()[key].columns}
            keys |= {c.high_key for c in load_questions()[key].columns if c.high_key}
            assert keys <= set(table.columns), key
