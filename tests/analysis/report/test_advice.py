"""What to do, on the page, in the terminal and in files."""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.advice.advice import advise
from numa_bench.analysis.report.advice import build_advice, summarize_advice
from numa_bench.analysis.report.page import render_page
from numa_bench.analysis.report.terminal import print_analysis
from tests.analyses import analysed, reported
from tests.analysis.advice.made_up import (
    TARGET,
    make_effect,
    make_loaded,
    make_table,
    two_sockets,
)

ADVICES = advise(make_table(make_effect("remote", 0.93)), make_loaded(two_sockets()), TARGET)


def test_a_block_has_advice_and_lines() -> None:
    (block,) = build_advice(ADVICES)

    assert block.title == ""
    assert block.note == ADVICES[0].text
    assert ADVICES[0].lines[-1].command in block.code.splitlines()


def test_machines_are_named_where_there_are_several() -> None:
    two = (*ADVICES, replace(ADVICES[0], machine="other", text="Do not bother."))

    assert [block.title for block in build_advice(two)] == [ADVICES[0].machine, "other"]
    assert summarize_advice(two)[1] == "other: Do not bother."
    assert summarize_advice(ADVICES) == [ADVICES[0].text]


@pytest.mark.slow
def test_the_files_have_what_the_analysis_advises() -> None:
    analysis = analysed("one_gpu")
    table, text = reported("one_gpu").bindings

    stored = json.loads(table.read_text())

    assert stored["schema_version"] == 1
    assert stored["advice"] == [advice.to_dict() for advice in analysis.advice]
    assert {line["tool"] for line in stored["advice"][0]["lines"]} >= {"numactl", "vLLM"}
    assert analysis.advice[0].lines[0].command in text.read_text().splitlines()


@pytest.mark.slow
def test_advice_on_a_simulated_machine_is_marked() -> None:
    table, text = reported("simulated").bindings

    assert json.loads(table.read_text())["simulated"]
    assert text.read_text().startswith("# Not a measurement: ")


@pytest.mark.slow
def test_the_page_has_the_advice_before_the_machine(tmp_path: Path) -> None:
    analysis = replace(analysed("one_gpu"), advice=ADVICES)

    page = render_page(analysis, [], tmp_path)

    assert page.index("<h2>What to do</h2>") < page.index("<h2>Measurements</h2>")
    assert ADVICES[0].text in unescape(page)
    assert ADVICES[0].lines[0].command in unescape(page)


@pytest.mark.slow
def test_a_page_without_runs_has_no_advice(tmp_path: Path) -> None:
    empty = replace(analysed("one_gpu"), advice=())

    assert "What to do" not in render_page(empty, [], tmp_path)


@pytest.mark.slow
def test_the_terminal_has_the_advice_and_where_its_lines_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    print_analysis(replace(analysed("one_gpu"), advice=ADVICES), tmp_path)

    output = capsys.readouterr().out
    assert ADVICES[0].text in output
    assert f"bindings  {tmp_path / 'bindings.txt'}" in output


@pytest.mark.slow
def test_one_node_has_nothing_to_bind() -> None:
    (advice,) = analysed("laptop").advice

    assert advice.kind == "nothing_to_bind"


def test_no_pooled_effects_is_said() -> None:
    (advice,) = advise(pd.DataFrame(), make_loaded(two_sockets()), TARGET)

    (block,) = build_advice([advice])

    assert "No verdict on placement" in block.note
    assert block.code
