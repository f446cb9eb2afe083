"""Points of bandwidth runs from files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.read.series import check_series, load_series
from numa_bench.records import BANDWIDTH
from numa_bench.study_files import run_paths
from tests.specs import record_of

GOOD = {"operation": "h2d", "size_bytes": 64, "memory": "pinned", "gb_per_s": 1.0, "samples": [1]}
BAD: list[Any] = [
    5,
    [],
    {},
    {"operation": 1},
    {**GOOD, "latency_ns": "a"},
    {**GOOD, "latency_us": [1]},
    {**GOOD, "size_bytes": 10**400},
    {**GOOD, "gb_per_s": "\x1b[31m"},
    {**GOOD, "gb_per_s": float("nan")},
    {**GOOD, "samples": 5},
    {**GOOD, "memory": ["a"]},
    {**GOOD, "timed_by": {}},
]


def store(directory: Path, text: str) -> tuple[list[Any], pd.DataFrame]:
    """A study of one bandwidth run with this result: its records, and its table of runs."""
    record = {**record_of("r0"), "workload": BANDWIDTH}
    path = run_paths(directory, "r0").result
    path.parent.mkdir(parents=True)
    path.write_text(text)
    frame = pd.DataFrame([{**record, "in_statistics": True, "study_dir": str(directory)}])
    return [record], frame


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_damaged_point_is_skipped_and_counted(tmp_path: Path, bad: Any) -> None:
    records, frame = store(tmp_path, json.dumps({"series": [GOOD, bad, GOOD]}))

    (problem,) = check_series(records, tmp_path)

    assert problem.path == str(run_paths(tmp_path, "r0").result)
    assert problem.reason == "1 of 3 points skipped: a value of the wrong type"
    assert list(load_series(frame)["gb_per_s"]) == [1.0, 1.0]


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '{"series": 5}', "[" * 100_000], ids=range(6)
)
def test_a_damaged_result_has_no_points_and_is_named(tmp_path: Path, text: str) -> None:
    records, frame = store(tmp_path, text)

    (problem,) = check_series(records, tmp_path)

    assert problem.reason.startswith("unreadable: ")
    assert load_series(frame).empty


def test_texts_of_a_point_cannot_control_the_terminal(tmp_path: Path) -> None:
    point = {**GOOD, "operation": "\x1b[31mh2d", "memory": "\x1b]0;x\x07pinned"}
    records, frame = store(tmp_path, json.dumps({"series": [point]}))

    assert check_series(records, tmp_path) == []
    (row,) = load_series(frame).to_dict("records")
    assert (row["operation"], row["memory"]) == ("h2d", "pinned")
