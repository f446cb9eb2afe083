"""Check settings and machine, run and write nothing: numa-bench check [OVERRIDE...]."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf

from numa_bench.commands import run
from numa_bench.commands.resumed_sweep import (
    expand_arguments,
    find_resumed,
    is_resumed_sweep,
    list_unfinished_jobs,
)
from numa_bench.config import hydra_app
from numa_bench.config.composition import compose_job, list_jobs, open_hydra, remove_hydra
from numa_bench.config.error_text import format_error
from numa_bench.config.hydra_guard import is_for_the_user
from numa_bench.config.loading import discover_machine, load_config
from numa_bench.config.overrides import to_dotted_key
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError, MachineError, NumaBenchError, StoreError
from numa_bench.invocation import command_text
from numa_bench.jsonio import read_json
from numa_bench.labels import duration_text
from numa_bench.machine.model import Topology
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.plan.plan import Plan
from numa_bench.profiling.launch import Profiler, find_profiler
from numa_bench.records import RunSpec
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.runner.resume import check_directory, read_stored

T = TypeVar("T")


@dataclass(frozen=True)
class CheckedStudy:
    """A study that was planned: the runs that it would do, and in one line what these are.

    `here`: it is planned for this machine.
    """

    config: RunnerConfig
    plan: Plan
    topology: Topology
    left: list[RunSpec]
    summary: str
    here: bool


def main() -> int:
    """Check this process's command line; return 0, or 2 if a run would be refused."""
    options = _parse_arguments()
    hydra_app.register_hydra()
    overrides = [to_dotted_key(word) for word in options.overrides]
    lines: list[str] = []
    try:
        other = read_machine(Path(options.topology)) if options.topology else None
        with open_hydra():
            errors, lines = check_overrides(overrides, other, multirun=options.multirun)
    except NumaBenchError as error:
        errors = [str(error)]
    for line in lines:
        print(line)
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
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
    if sweep is not None and is_resumed_sweep(sweep):
        unfinished = list_unfinished_jobs(sweep, overrides)
        if not unfinished:
            return [], [f"nothing left: all jobs of {sweep} are finished"]
        _multirun, *overrides = expand_arguments(overrides, sweep, unfinished, datetime.now())
        multirun = True
    errors, jobs = find_mistakes(overrides, lambda words: list_jobs(words, multirun=multirun))
    planner = _Planner(other)
    studies = []
    for number, job in enumerate(jobs or ()):
        mistakes, study = find_mistakes(job, planner.check_study)
        name = f"job {number} ({_name_job(job, jobs or ())}): " if len(jobs or ()) > 1 else ""
        errors += [f"{name}{text}" for text in mistakes]
        if study is not None:
            studies.append(replace(study, summary=f"{name}{study.summary}"))
    errors += check_machine([study for study in studies if study.here])
    return errors, [] if errors else describe_studies(studies)


def find_mistakes(
    overrides: Sequence[str], attempt: Callable[[Sequence[str]], T]
) -> tuple[list[str], T | None]:
    """What `attempt` says is wrong with the overrides, and what it returns without those at fault.

    An error names the key of an override; the next one shows when that override is left out. An
    error of what is left that names none of its keys may come of leaving one out, and is not
    believed.
    """
    errors: list[str] = []
    rest = list(overrides)
    while True:
        try:
            return errors, attempt(rest)
        except Exception as error:
            if not is_for_the_user(error):
                raise
            text = format_error(error, RunnerConfig)
        wrong = [override for override in rest if _is_named(override, text)]
        if wrong or not errors:
            errors.append(text)
        if not wrong:
            return errors, None
        rest = [override for override in rest if override not in wrong]


def check_machine(studies: Sequence[CheckedStudy]) -> list[str]:
    """What this machine lacks for the studies that are planned for it; nothing twice."""
    checks: list[Callable[[], object]] = []
    for study in studies:
        checks += run.list_machine_checks(study.config, study.plan)
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


def describe_studies(studies: Sequence[CheckedStudy]) -> list[str]:
    """What would be run, in how long, and conditions that would weaken it."""
    from numa_bench.runner.conditions import check_conditions

    lines = [study.summary for study in studies]
    left = [run for study in studies for run in study.left]
    if len(studies) > 1:
        took = duration_text(sum(map(estimate_run_s, left)))
        lines.append(f"{len(studies)} jobs, {len(left)} runs, about {took} one after another.")
    what = "Settings and machine" if all(study.here for study in studies) else "Settings"
    lines.append(f"{what} were checked; nothing was run or written.")
    pending = [study for study in studies if study.left]
    warnings = [text for study in pending for text in _warn(study.plan)]
    for study in pending:
        warnings += check_conditions(study.left, study.topology) if study.here else []
    return lines + [f"warning: {text}" for text in dict.fromkeys(warnings)]


class _Planner:
    """Plans studies for this machine, or for the `other` one; probes nsys once."""

    def __init__(self, other: Topology | None) -> None:
        self._other = other
        self._profilers: dict[str, Profiler] = {}

    def check_study(self, overrides: Sequence[str]) -> CheckedStudy:
        """Compose, validate and plan a single job. Raises the error that a run would raise."""
        from numa_bench.runner.display.left import describe_left, describe_plan, find_left

        composed = compose_job(overrides)
        words = run.read_task_overrides(composed.hydra)
        if composed.resume_from:
            hydra_app.check_resumable(Path(composed.resume_from))
        config = load_config(_without_dry_run(remove_hydra(composed)), words)
        here = self._other is None and config.topology_root is None
        if self._other is not None:
            if config.topology_root is not None:
                raise ConfigError(
                    "topology_root", config.topology_root, "cannot be combined with --topology"
                )
            topology, visible = self._other, self._other.gpus
        else:
            topology, visible = discover_machine(config.topology_root)
        profiler = self._find_profiler(config, here=here)
        plan = run.plan_study(config, topology, visible, words, profiler)
        directory = Path(config.resume_from or OmegaConf.select(composed, "hydra.run.dir"))
        check_directory(directory, plan, words)
        _check_writable(directory)
        stored = read_stored(directory, plan)
        left = find_left(plan, stored or ())
        what = describe_plan(plan) if stored is None else describe_left(plan, stored, left)
        return CheckedStudy(config, plan, topology, left, f"{plan.study}: {what}", here)

    def _find_profiler(self, config: RunnerConfig, *, here: bool) -> Profiler:
        """The profiler here; on another machine one that was asked for by name is believed."""
        kind = config.profiler.kind
        if not here:
            return Profiler(kind if kind != "auto" else "none", config.profiler)
        key = repr(config.profiler)
        if key not in self._profilers:
            self._profilers[key] = find_profiler(config.profiler, probe=True)
        return self._profilers[key]


def _without_dry_run(node: DictConfig) -> DictConfig:
    """The node as for a run, but for a captured tree, with which only dry runs are accepted."""
    node.dry_run = node.topology_root is not None
    return node


def _check_writable(directory: Path) -> None:
    """Raise StoreError if a study's directory could not be made or written. Writes nothing."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise StoreError(f"{existing} is no directory; choose another output.root")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StoreError(f"{existing} cannot be written; choose another output.root")


def _is_named(override: str, error: str) -> bool:
    """Whether an error, which begins with a key, is about this override."""
    key = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", override.lstrip("+~").partition("=")[0])
    place = re.split("[=:]", error.lstrip("+~"), maxsplit=1)[0]
    # The key of a group alone (experiment=...) is in front of too many others.
    return place == key or ("." in key and place.startswith((f"{key}.", f"{key}[")))


def _name_job(job: Sequence[str], jobs: Sequence[Sequence[str]]) -> str:
    """The overrides in which a job of a sweep differs from others."""
    return ",".join(word for word in job if any(word not in other for other in jobs))


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
