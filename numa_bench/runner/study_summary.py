"""The summary of a study: experiment_summary.json, and the lines below the closing table.

Functions compute and return; `study` writes and prints.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.invocation import command_text, resume_command
from numa_bench.marks import format_legend
from numa_bench.plan.plan import Plan
from numa_bench.records import JsonDict, Record, Status, Summary, TimeLimitSummary
from numa_bench.runner.display.console import result_line
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.runner.repeats_history import extend_history
from numa_bench.runner.resume import find_done
from numa_bench.store import StudyStore
from numa_bench.study_files import LOGS, PROFILES, RESULTS, RUNS


@dataclass(frozen=True)
class StudyStart:
    """What is known when a study starts or resumes.

    `environment` describes machine and software, with its id; `earlier` are the environments of
    earlier starts by id; `conditions` are those of the machine that weaken the study;
    `completed_repeats` are those that earlier starts planned and ran.
    """

    started: str
    environment: JsonDict
    earlier: dict[str, JsonDict]
    conditions: tuple[str, ...]
    completed_repeats: tuple[int, ...] = ()


def warn_other_environments(records: Sequence[Record], environment_id: str) -> list[str]:
    """A warning when stored records are from another environment than this start's.

    A resumed study may hold runs of a machine or of software that has changed since.
    """
    others = {r["environment"] for r in records if r["environment"]} - {environment_id}
    if not others:
        return []
    names = ", ".join(sorted(map(str, others)))
    return [
        f"earlier runs of this study are from another environment ({names}, now {environment_id}); "
        "do not pool them: experiment_summary.json has the differences"
    ]


def warn_other_isolation(records: Sequence[Record], shares_host: bool) -> list[str]:
    """A warning when stored records shared the host and this start does not, or the reverse."""
    others = sum(record["shared_host"] != shares_host for record in records)
    if not others:
        return []
    here, before = ("shared", "silent") if shares_host else ("silent", "shared")
    return [
        f"{others} earlier runs of this study were measured on a {before} host, those to come on a "
        f"{here} one; the analysis does not pool them (isolation.exclusive)"
    ]


def build_summary(
    plan: Plan, start: StudyStart, store: StudyStore, *, updated: str, interrupted: bool
) -> Summary:
    """experiment_summary.json of a study as it is stored now. `updated`: the time, in UTC."""
    records, counts = store.records, store.count_statuses()
    own_id = start.environment["id"]
    return {
        "study": plan.study,
        "planned": len(plan.runs),
        "counts": counts,
        "success_rate": counts[Status.PASSED.value] / len(records) if records else None,
        "started": start.started,
        "updated": updated,
        "runs_duration_s": sum(record["duration_s"] for record in records),
        "interrupted": interrupted,
        "time_limit": describe_time_limit(plan),
        "repeats_history": extend_history(start.completed_repeats, plan),
        "order": plan.order,
        "order_seed": plan.order_seed,
        "run_order": [run.run_id for run in plan.runs],
        "jobs": [list(words) for words in plan.jobs],
        "conditions": list(start.conditions),
        "warnings": [*plan.warnings, *plan.blind_spots],
        "profiler": {
            "kind": plan.profiler.kind,
            "version": plan.profiler.version,
            "note": plan.profiler.note,
        },
        "allocation": plan.allocation.to_dict(),
        "machine": start.environment,
        # By id, as records name them: a study may have been resumed elsewhere.
        "environments": {**start.earlier, own_id: start.environment},
    }


def describe_time_limit(plan: Plan) -> TimeLimitSummary | None:
    """What the time limit left of a study; None without a limit."""
    limit = plan.time_limit
    if limit is None:
        return None
    return {
        "limit_s": limit.limit_s,
        "repeats": limit.repeats,
        "kept_repeats": len({run.repeat for run in plan.runs}),
        "cut_runs": len(plan.cut),
        "expected_s": plan.estimated_s,
    }


def format_counts(store: StudyStore) -> str:
    """How many runs ended in which way: "3 passed, 1 failed"; empty without any."""
    return ", ".join(f"{n} {status}" for status, n in store.count_statuses().items() if n)


def closing_lines(
    plan: Plan, store: StudyStore, saved: Path | None, tracked: Sequence[str], took_s: float
) -> list[str]:
    """The lines below the closing table: legend, counts, where the files are, what is left to do.

    `saved` is the file that holds the records (None: no disk takes them), `tracked` one line for
    each tracker, `took_s` the seconds that the study took.
    """
    root = shown_path(store.root)
    missing = len({run.run_id for run in plan.runs} - find_done(store.records, plan.runs))
    lines = [
        *format_legend([w for record in store.records for w in record["warnings"]]),
        f"{format_counts(store) or 'no run'} of {len(plan.runs)} planned",
        *_result_lines(store, saved),
        f"raw data  {root / RUNS}",
        f"logs      {root / LOGS}",
        *_profile_lines(store.records, root),
        *tracked,
    ]
    if missing:
        lines.append(f"{missing} not done; to run them: {resume_command(root)}")
    if saved is None:
        lines.append(f"to run what is not stored, when there is space: {resume_command(root)}")
    elif saved.parent != store.root:
        lines.append(
            f"to store the results in the study, when there is space: {resume_command(root)}"
        )
    limited = describe_limit(plan, took_s)
    lines += limited
    if limited and not missing:
        lines.append(f"to run the others: {resume_command(root)} time_limit=null")
    return lines


def _result_lines(store: StudyStore, saved: Path | None) -> list[str]:
    """Where the records are, or those that no file has."""
    if saved is not None:
        return [f"results   {shown_path(saved)}"]
    lost = store.unsaved
    return [
        f"results   {shown_path(store.root / RESULTS)}, without {len(lost)} that no disk took:",
        *(f"          {record['status']} {result_line(record)}" for record in lost),
    ]


def shown_path(path: Path) -> Path:
    """A path as the user would type it: relative if it is below the working directory."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _profile_lines(records: Sequence[Record], root: Path) -> list[str]:
    """How many profiles there are, and the command that shows those of one kind."""
    kept = ["nsys_report" for record in records if record["nsys_report"]]
    kept += ["torch_trace" for record in records if record["torch_trace"]]
    if not kept:
        return []
    # The shell expands the pattern, so only the directory is quoted.
    inspect = f"{command_text('inspect')} {shlex.quote(str(root))}/{PROFILES[kept[0]]}"
    return [f"profiles  {len(kept)}; to look at them: {inspect}"]
