"""Studies that were extended after a look at their results: what the verdict says about it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.stats.extensions import FALSE_CLAIMS, describe_extensions, describe_looks
from numa_bench.analysis.stats.tables import effect_table
from numa_bench.analysis.stats.verdicts import judge_cells, judge_studies
from numa_bench.study_files import SUMMARY
from tests.analysis.stats.made_up import pooled
from tests.fake_scenarios import numa_study, one_gpu
from tests.fake_study import write_study


def write_history(study: Path, history: object) -> None:
    summary = json.loads((study / SUMMARY).read_text())
    (study / SUMMARY).write_text(json.dumps({**summary, "repeats_history": history}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, replace(numa_study(one_gpu()), raw=0))


def details_of(study: Path) -> list[str]:
    """The lines below the verdict that are about extensions."""
    frame = load_studies(study).frame
    verdicts = judge_cells(effect_table(frame), frame)
    (verdict,) = judge_studies(verdicts, frame, pooled(frame))
    return [line for line in verdict.details if "extended" in line]


def test_the_verdict_on_an_extended_study_says_so(study: Path) -> None:
    assert details_of(study) == []

    write_history(study, [5, 10, 15])

    assert load_studies(study).studies[0].repeats_history == (5, 10, 15)
    (line,) = details_of(study)
    assert line.startswith("this study was extended from 5 to 10 to 15 repeats: ")
    assert f"in about {100 * FALSE_CLAIMS[3]:.0f} % of studies without any effect" in line


@pytest.mark.parametrize("history", [None, [], "5", ["5", "10"], [5, True]])
def test_a_damaged_history_is_no_extension(study: Path, history: object) -> None:
    write_history(study, history)

    assert details_of(study) == []


@pytest.mark.parametrize("history", [(), (5,), (1, 5), (1, 2, 5)])
def test_too_few_repeats_for_a_verdict_are_no_look(history: tuple[int, ...]) -> None:
    assert describe_looks(history, "it") == ""


def test_more_looks_are_worse() -> None:
    def rate(looks: int) -> int:
        text = describe_looks(range(5, 5 * looks + 1, 5), "it")
        found = re.search(r"by chance in (?:about|more than) (\d+) %", text)
        assert found
        return int(found[1])

    rates = [rate(looks) for looks in range(2, 8)]

    assert rates == sorted(rates)
    assert rates[0] > 5
    # Beyond what was simulated, the rate is a lower bound.
    assert "in more than" in describe_looks(range(5, 50, 5), "it")


def test_of_several_studies_the_extended_one_is_named() -> None:
    frame = pd.DataFrame(
        {
            "study_dir": ["a", "a", "b"],
            "repeats_history": [(5, 10), (5, 10), (5,)],
        }
    )

    (line,) = describe_extensions(frame)

    assert line.startswith("the study in a was extended from 5 to 10 repeats: ")
