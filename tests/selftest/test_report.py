"""Rows, JSON and exit codes of outcomes."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from numa_bench.jsonio import read_json, write_json
from numa_bench.selftest.checks import Check, Figure, Limit, Outcome, Verdict
from numa_bench.selftest.report import (
    count_verdicts,
    decide_exit_code,
    describe_subject,
    make_document,
    make_row,
    make_table,
    outcome_from_dict,
    outcome_to_dict,
    summarise_outcomes,
)
from numa_bench.selftest.session import Session
from tests.machines import make_gpu
from tests.selftest.contexts import BOUND, UNBOUND

RATE = Check("rate", "fast?", "of link", Limit(least=0.75), lambda _: Figure(0))
PASSED = Outcome(RATE, Verdict.PASSED, Figure(0.81234, "50 GB/s", {"gb": 50}), "50 GB/s", 1.5)
FAILED = Outcome(RATE, Verdict.FAILED, None, "OSError: [no] access", 0.1, "Traceback ...")
WAIVED = Outcome(RATE, Verdict.WAIVED, None, "no GPU", 0.0)


def document(*outcomes: Outcome) -> dict[str, Any]:
    return make_document(
        outcomes,
        Session(BOUND),
        environment={"host": "here"},
        begin=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        seconds=12.3456,
        simulated=None,
    )


def test_a_row_has_figure_limit_verdict_and_note() -> None:
    assert make_row(PASSED) == ("rate", "0.8123 of link", ">= 0.75", "passed", "50 GB/s")
    assert make_row(FAILED) == ("rate", "-", ">= 0.75", "failed", "OSError: [no] access")


def test_text_in_brackets_is_not_markup() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(make_table([PASSED, FAILED, WAIVED], "title"), markup=False)

    assert "[no] access" in capture.get()
    assert all(verdict in capture.get() for verdict in ("passed", "failed", "waived"))


def test_only_a_failure_changes_the_exit_code() -> None:
    assert decide_exit_code([PASSED, WAIVED]) == 0
    assert decide_exit_code([PASSED, FAILED, WAIVED]) == 1
    assert summarise_outcomes([PASSED, PASSED, WAIVED]) == "2 passed, 0 failed, 1 waived"
    assert count_verdicts([]) == {"passed": 0, "failed": 0, "waived": 0}


def test_the_document_holds_what_the_table_shows_and_more(tmp_path: Path) -> None:
    path = tmp_path / "new" / "selftest.json"
    write_json(path, document(PASSED, FAILED))

    stored = read_json(path)

    assert stored["verdict"] == "failed"
    assert stored["counts"] == {"passed": 1, "failed": 1, "waived": 0}
    assert stored["begin"] == "2026-01-02T03:04:05+00:00"
    assert stored["session"]["placement"]["numa_node"] == 0
    rate, failure = stored["checks"]
    assert rate["limit"] == {"least": 0.75, "most": None}
    assert (rate["value"], rate["unit"], rate["details"]) == (0.81234, "of link", {"gb": 50})
    assert failure["value"] is None
    assert failure["traceback"] == "Traceback ..."
    assert document(PASSED)["verdict"] == "passed"


def test_outcomes_survive_the_way_between_processes() -> None:
    for outcome in (PASSED, FAILED, WAIVED):
        assert outcome_from_dict(RATE, json.loads(json.dumps(outcome_to_dict(outcome)))) == outcome

    nan = Outcome(RATE, Verdict.FAILED, Figure(math.nan), "", 0.0)
    figure = outcome_from_dict(RATE, outcome_to_dict(nan)).figure
    assert figure is not None
    assert math.isnan(figure.value)


def test_the_subject_is_named() -> None:
    gpu = make_gpu(3, 0)

    assert describe_subject(Session(UNBOUND)) == "the CPU, bound to no node"
    assert describe_subject(Session(BOUND, (gpu,), 3)) == (
        f"GPU 3 ({gpu.name}), CPUs of node 0, memory of node 0"
    )
