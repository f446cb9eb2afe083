"""Outcomes as a table, as JSON and as an exit code. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from numa_bench.records import JsonDict
from numa_bench.selftest.checks import Check, Figure, Outcome, Verdict
from numa_bench.selftest.session import Session

#: Version of the JSON file. A change that an older reader would misread increments it.
FORMAT_VERSION = 1
_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.WAIVED: "yellow"}


def make_row(outcome: Outcome) -> tuple[str, str, str, str, str]:
    """Check, figure with unit, limit, verdict, note."""
    check, figure = outcome.check, outcome.figure
    value = "-" if figure is None else f"{format_value(figure.value)} {check.unit}".rstrip()
    return check.name, value, str(check.limit), outcome.verdict.value, outcome.note


def format_value(value: float) -> str:
    """Four significant digits, whole numbers as they are."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def make_table(outcomes: Sequence[Outcome], title: str) -> Table:
    """All outcomes, one row each."""
    table = Table(title=title, title_justify="left")
    table.add_column("check", overflow="fold")
    table.add_column("figure", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("verdict")
    table.add_column("note", overflow="fold")
    for outcome in outcomes:
        name, value, limit, verdict, note = make_row(outcome)
        style = _STYLES[outcome.verdict]
        table.add_row(name, value, limit, Text(verdict, style), note)
    return table


def summarise_outcomes(outcomes: Sequence[Outcome]) -> str:
    """One line: how many passed, failed and were waived."""
    counts = count_verdicts(outcomes)
    return ", ".join(f"{counts[verdict.value]} {verdict.value}" for verdict in Verdict)


def count_verdicts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Number of outcomes by verdict, all verdicts."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def decide_exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 if a check failed, else 0."""
    return int(any(outcome.verdict is Verdict.FAILED for outcome in outcomes))


def make_document(
    outcomes: Sequence[Outcome],
    session: Session,
    *,
    environment: JsonDict,
    begin: datetime,
    seconds: float,
    simulated: str | None,
) -> JsonDict:
    """The content of the JSON file. `simulated`: why the figures are not a measurement."""
    failed = decide_exit_code(outcomes)
    return {
        "selftest_version": FORMAT_VERSION,
        "begin": begin.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "full": session.full,
        "verdict": (Verdict.FAILED if failed else Verdict.PASSED).value,
        "counts": count_verdicts(outcomes),
        "simulated": simulated,
        "session": session.to_dict(),
        "environment": environment,
        "checks": [describe_outcome(outcome) for outcome in outcomes],
    }


def describe_outcome(outcome: Outcome) -> JsonDict:
    """One entry of `checks`: what was asked, the verdict and the figure."""
    check = outcome.check
    return {
        "name": check.name,
        "question": check.question,
        "unit": check.unit,
        "limit": {"least": _finite(check.limit.least), "most": _finite(check.limit.most)},
        **outcome_to_dict(outcome),
    }


def outcome_to_dict(outcome: Outcome) -> JsonDict:
    """What `outcome_from_dict` reads, without the check itself."""
    figure = outcome.figure
    return {
        "verdict": outcome.verdict.value,
        "value": None if figure is None else _finite(figure.value),
        "note": outcome.note,
        "details": {} if figure is None else figure.details,
        "seconds": round(outcome.seconds, 3),
        "traceback": outcome.traceback,
        "measured": figure is not None,
    }


def outcome_from_dict(check: Check, data: JsonDict) -> Outcome:
    """The inverse of `outcome_to_dict`. A figure that JSON cannot hold comes back as NaN."""
    figure = None
    if data["measured"]:
        value = math.nan if data["value"] is None else data["value"]
        figure = Figure(value, data["note"], data["details"])
    return Outcome(
        check,
        Verdict(data["verdict"]),
        figure,
        data["note"],
        data["seconds"],
        data["traceback"],
    )


def describe_subject(session: Session) -> str:
    """What was measured and where, in one line."""
    gpu = next((gpu for gpu in session.visible if gpu.index == session.gpu_id), None)
    device = f"GPU {gpu.index} ({gpu.name})" if gpu else "the CPU"
    placement = session.placement
    if not placement.bound:
        return f"{device}, bound to no node"
    nodes = ",".join(map(str, placement.memory_nodes))
    return f"{device}, CPUs of node {placement.numa_node}, memory of node {nodes}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
