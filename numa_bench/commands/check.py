"""Check settings and machine, run and write nothing: numa-bench check [OVERRIDE...]."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from numa_bench.commands import run
from numa_bench.commands.checks.jobs import (
    CheckedStudy,
    Planner,
    check_jobs,
    find_mistakes,
    name_jobs,
    plan_interleaved,
)
from numa_bench.commands.resumed_sweep import (
    expand_arguments,
    find_resumed,
    list_unfinished_jobs,
)
from numa_bench.config.hydra import app as hydra_app
from numa_bench.config.hydra.composition import list_jobs, open_hydra
from numa_bench.config.hydra.overrides import to_dotted_key
from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import MachineError, NumaBenchError
from numa_bench.invocation import command_text
from numa_bench.isolation.host_locks import hold_start_up, print_wait
from numa_bench.jsonio import read_json
from numa_bench.labels import duration_text
from numa_bench.machine.model import Topology
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.plan.plan import Plan
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.terminal.lines import print_error, print_line

T = TypeVar("T")


def main() -> int:
    """Check this process's command line; return 0, or 2 if a run would be refused."""
    options = _parse_arguments()
    hydra_app.register_hydra()
    overrides = [to_dotted_key(word) for word in options.overrides]
    lines: list[str] = []
    try:
        other = read_machine(Path(options.topology)) if options.topology else None
        with contextlib.ExitStack() as opened:
            if other is None:  # trying nsys, numactl and GPUs would disturb a measurement
                opened.enter_context(
                    hold_start_up(IsolationConfig(), partial(print_wait, what="check"))
                )
            opened.enter_context(open_hydra())
            errors, lines = check_overrides(overrides, other, multirun=options.multirun)
    except NumaBenchError as error:
        errors = [str(error)]
    for line in lines:
        print_line(line)
    for text in errors:
        print_error(text)
    return 2 if errors else 0


def read_machine(path: Path) -> Topology:
    """The machine in a study's topology.json. Raises MachineError."""
    try:
        return replace(Topology.from_dict(read_json(path)), source=str(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MachineError(
            f"--topology {path}: {reason}; give the topology.json of a study"
        ) from error


def check_overrides(
    overrides: Sequence[str], other: Topology | None, *, multirun: bool
) -> tuple[list[str], list[str]]:
    """What a run with these overrides would be refused for, and, if nothing, what it would do.

    Both are lines. `other` is another machine to plan for; None: this one. Raises StoreError.
    """
    sweep = find_resumed(overrides)
    if sweep is not None:
        unfinished = list_unfinished_jobs(sweep, overrides)
        if not unfinished:
            return [], [f"nothing left: all jobs of {sweep} are finished"]
        _multirun, *overrides = expand_arguments(overrides, sweep, unfinished, datetime.now())
        multirun = True
    errors, jobs = find_mistakes(overrides, lambda words: list_jobs(words, multirun=multirun))
    jobs = jobs or []
    planner = Planner(other, probe=True, alone=len(jobs) == 1)
    wrong, studies = check_jobs(jobs, planner.check_study)
    errors += wrong
    errors += check_machine([study for study in studies if study.here])
    if errors:
        return errors, []
    joint = plan_interleaved(jobs, studies, planner)
    if joint is not None:
        return [], describe_studies([joint], [""])
    return [], describe_studies(studies, name_jobs(jobs))


def check_machine(studies: Sequence[CheckedStudy]) -> list[str]:
    """What this machine lacks for the studies that are planned for it; nothing twice."""
    checks: list[Callable[[], object]] = []
    for study in studies:
        checks += run.list_machine_checks(study.jobs, study.plan, study.topology)
    specs = [spec for study in studies for spec in study.plan.runs]
    checks.append(partial(run.check_planned_gpus, specs))
    on_gpus = (study for study in studies if any(s.device.kind == "cuda" for s in study.left))
    first = next(on_gpus, None)
    if first is not None:
        checks.append(partial(run.check_recording, first.plan))
    errors = []
    for check in checks:
        try:
            check()
        except NumaBenchError as error:
            errors.append(str(error))
    return list(dict.fromkeys(errors))


def describe_studies(studies: Sequence[CheckedStudy], names: Sequence[str]) -> list[str]:
    """What the jobs of these names would run, in how long, and what would weaken it."""
    from numa_bench.runner.conditions import check_conditions

    lines = [study.summary for study in studies]
    if len(studies) > 1:
        lines = [f"job {n} ({names[n]}): {line}" for n, line in enumerate(lines)]
    left = [spec for study in studies for spec in study.left]
    if len(studies) > 1:
        took = duration_text(sum(map(estimate_run_s, left)))
        lines.append(f"{len(studies)} jobs, {len(left)} runs, about {took} one after another.")
    what = "Settings and machine" if all(study.here for study in studies) else "Settings"
    lines.append(f"{what} were checked; nothing was run or written.")
    pending = [study for study in studies if study.left]
    warnings = [text for study in pending for text in _warn(study.plan)]
    for study in pending:
        warnings += (
            check_conditions(run.list_granted(study.left), study.topology) if study.here else []
        )
    return lines + [f"warning: {text}" for text in dict.fromkeys(warnings)]


def _warn(plan: Plan) -> list[str]:
    note = [plan.profiler.note] if plan.profiler.note else []
    limited = [f"time limit: {line}" for line in describe_limit(plan)]
    return [*plan.warnings, *plan.blind_spots, *limited, *note]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command_text("check"),
        description="Check settings and machine as a run would, without running or writing "
        "anything; print what would be run.",
        epilog="Exit code 0: a run could start. 2: it would be refused; each reason is one line.",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for a run: key=value")
    parser.add_argument("-m", "--multirun", action="store_true", help="the overrides are a sweep")
    parser.add_argument(
        "--topology",
        metavar="FILE",
        help="plan for the machine in this topology.json of a study, not for this one",
    )
    return parser.parse_intermixed_args()
