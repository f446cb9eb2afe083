"""Damaged files of a study, from the loader to statistics and the page."""

from __future__ import annotations

import copy
import json
import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.report.terminal import print_analysis
from numa_bench.analysis.study_analysis import analyse_study
from numa_bench.errors import StoreError
from numa_bench.runner.resume import count_stored
from numa_bench.study_files import (
    RESULTS,
    SUMMARY,
    TOPOLOGY,
    TRACKING,
    read_records,
    read_summary,
    run_paths,
)
from numa_bench.tracking.sync import known_place
from numa_bench.tracking.view import read_study
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study
from tests.fuzz.settings import fuzz_settings
from tests.fuzz.values import change, list_places, put

FILES = (RESULTS, SUMMARY, TOPOLOGY)


@cache
def whole_study() -> dict[str, Any]:
    """The files of a small study."""
    with tempfile.TemporaryDirectory() as directory:
        study = scenario("fuzzed", one_gpu(), models((32, 2, 128)), 3)
        path = write_study(Path(directory), study)
        path = path if path.is_dir() else path.parent
        return {name: json.loads((path / name).read_text()) for name in FILES}


@st.composite
def damaged_files(draw: st.DrawFn) -> dict[str, Any]:
    """The same files with some values replaced or removed."""
    files = copy.deepcopy(whole_study())
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from((RESULTS, RESULTS, *FILES)))
        put(files, (name, *draw(st.sampled_from(list_places(files[name]) or [()]))), draw(change))
    return files


def write_files(directory: Path, files: dict[str, Any]) -> Path:
    for name, data in files.items():
        (directory / name).write_text(json.dumps(data))
    return directory


def analyse(directory: Path) -> int:
    """Everything that `analyze` does but draw; how many runs there were."""
    loaded = load_studies([directory])
    analysis = analyse_study(
        "fuzzed", loaded, profiles=pd.DataFrame(), target=0.02, seed=0, created="", command=""
    )
    with mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())):
        report = write_report(analysis, directory / "analysis")
    print_analysis(analysis, directory)
    page = report.page.read_text(encoding="utf-8")
    assert "<script>" not in page.replace("<script>\n", "")
    counted = sum(int(p.reason.split()[0]) for p in loaded.problems if "skipped" in p.reason)
    assert len(loaded.frame) + counted <= len(whole_study()[RESULTS])
    return len(loaded.frame)


@pytest.mark.slow
@fuzz_settings(10)
@given(damaged_files())
def test_a_damaged_study_is_analysed_or_refused(files: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        analyse(write_files(Path(temporary), files))


@fuzz_settings(60)
@given(damaged_files(), change, change)
def test_a_damaged_study_reaches_trackers_or_is_refused(
    files: dict[str, Any], result: Any, state: Any
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = write_files(Path(temporary), files)
        whole = whole_study()[RESULTS][0]
        path = run_paths(directory, whole["run_id"]).result
        path.parent.mkdir(parents=True)
        samples = {"samples": {"compute_ms": [1.0, result], "h2d_ms": result}}
        path.write_text(json.dumps(samples, default=str))
        (directory / TRACKING).write_text(
            json.dumps({"key": state, "trackers": state}, default=str)
        )
        try:
            study = read_study(directory, points=10, max_file_mb=1)
        except StoreError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most cases raise nothing
            return
        known_place(directory, "mlflow")
        for run in study.runs:
            assert all(map(math.isfinite, [*run.metrics.values(), run.start_s, run.end_s]))
            assert all(math.isfinite(v) for points in run.series.values() for _, v in points)
            assert all(path.is_relative_to(directory.resolve()) for path in run.files)


@fuzz_settings(60)
@given(damaged_files())
def test_a_damaged_study_is_resumed_or_refused_in_one_line(files: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = write_files(Path(temporary), files)
        read_summary(directory)
        try:
            records = read_records(directory / RESULTS)
            count_stored(directory)
        except StoreError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most cases raise nothing
        else:
            assert len(records) <= len(whole_study()[RESULTS])
