"""experiment_summary.json, and what is printed below the closing table."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from numa_bench.records import Execution, Record, Status, Summary, make_record
from numa_bench.runner.study import add_export
from numa_bench.runner.study_summary import (
    StudyStart,
    build_summary,
    closing_lines,
    shown_path,
    warn_other_environments,
    warn_other_isolation,
)
from numa_bench.store import StudyStore
from tests.fake_worker import make_plan

START = StudyStart("2026-01-31T14:30:15+00:00", {"id": "new"}, {"old": {"id": "old"}}, ("swap",))


def record_of(index: int = 0, status: Status = Status.PASSED, **changes: Any) -> Record:
    spec = make_plan(["m0"], repeats=index + 1).runs[index]
    execution = Execution(status, 0, None, START.started, 1.5, 1, "logs/out", "logs/err", **changes)
    return make_record(spec, None, execution, "host")


def store_of(directory: Path, *records: Record) -> StudyStore:
    store = StudyStore(directory)
    for record in records:
        store.add_record(record)
    return store


def test_the_summary_counts_what_is_stored(tmp_path: Path) -> None:
    store = store_of(tmp_path, record_of(0), record_of(1, Status.FAILED))

    summary = build_summary(
        make_plan(["m0"], repeats=3), START, store, updated="now", interrupted=True
    )

    assert summary.keys() == get_type_hints(Summary).keys()
    assert (summary["planned"], summary["success_rate"], summary["runs_duration_s"]) == (3, 0.5, 3)
    assert (summary["counts"]["passed"], summary["counts"]["failed"]) == (1, 1)
    assert (summary["updated"], summary["interrupted"]) == ("now", True)
    assert summary["environments"] == {"old": {"id": "old"}, "new": {"id": "new"}}


def test_a_study_without_a_run_has_no_success_rate(tmp_path: Path) -> None:
    summary = build_summary(make_plan([]), START, store_of(tmp_path), updated="", interrupted=False)

    assert summary["success_rate"] is None


@pytest.mark.parametrize(
    ("environments", "count"), [([], 0), (["new", None], 0), (["new", "old", "older"], 1)]
)
def test_runs_of_another_environment_are_warned_about(
    environments: list[str | None], count: int
) -> None:
    records = [record_of(environment=environment) for environment in environments]

    warnings = warn_other_environments(records, "new")

    assert len(warnings) == count
    assert all("(old, older, now new)" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("shares_host", "text"),
    [
        (False, "1 earlier runs of this study were measured on a shared host, "),
        (True, "2 earlier runs of this study were measured on a silent host, "),
    ],
)
def test_runs_of_another_isolation_are_warned_about(shares_host: bool, text: str) -> None:
    records = [record_of(shared_host=shared) for shared in (True, False, False)]

    (warning,) = warn_other_isolation(records, shares_host)

    assert warning.startswith(text)
    same = [record for record in records if record["shared_host"] == shares_host]
    assert warn_other_isolation(same, shares_host) == []


def test_the_closing_lines_say_where_everything_is_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = store_of(
        tmp_path / "study",
        record_of(0, nsys_report="nsys_reports/a.nsys-rep", warnings=("few: 3",)),
        record_of(1, Status.FAILED),
    )
    saved = tmp_path / "study" / "results.json"

    plan = make_plan(["m0"], repeats=3)
    legend, *lines = closing_lines(plan, store, saved, ["tracking  there"], 4.0)

    assert legend.startswith("F: ")
    assert lines == [
        "1 passed, 1 failed of 3 planned",
        "results   study/results.json",
        "raw data  study/runs",
        "logs      study/logs",
        "profiles  1; to look at them: python analysis/inspect_report.py "
        "study/nsys_reports/*.nsys-rep",
        "tracking  there",
        "2 not done; to run them: python hydra_experiment_runner.py resume_from=study",
    ]


def test_a_study_that_is_complete_names_nothing_to_resume(tmp_path: Path) -> None:
    lines = closing_lines(make_plan([]), store_of(tmp_path), tmp_path / "results.json", [], 0.0)

    assert lines[0] == "no run of 0 planned"
    assert not any("not done" in line for line in lines)


def test_a_path_is_shown_as_the_user_would_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert shown_path(tmp_path / "a") == Path("a")
    assert shown_path(Path("/elsewhere/a")) == Path("/elsewhere/a")


def test_an_export_makes_a_new_record() -> None:
    record = record_of(nsys_report="a.nsys-rep", warnings=("few: 3",))
    before = copy.deepcopy(record)

    exported = add_export(record, "a.sqlite", None)
    failed = add_export(record, "a.sqlite", "no space")

    assert record == before
    assert (exported["nsys_sqlite"], exported["warnings"]) == ("a.sqlite", ["few: 3"])
    assert (failed["nsys_sqlite"], failed["warnings"]) == (None, ["few: 3", "profiler: no space"])
