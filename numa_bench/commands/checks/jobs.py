"""What is wrong with the settings of jobs, found without running or writing anything."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf

from numa_bench.commands import run
from numa_bench.config.error_text import format_error
from numa_bench.config.hydra import app as hydra_app
from numa_bench.config.hydra.composition import CONFIG_NAME, compose_job, remove_hydra
from numa_bench.config.hydra.guard import is_for_the_user
from numa_bench.config.hydra.launchers import check_single_process
from numa_bench.config.hydra.overrides import find_touched_models
from numa_bench.config.jobs import StudyJob, check_interleaved, refuse_single
from numa_bench.config.loading import discover_allocation, discover_machine, load_jobs
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError, StoreError
from numa_bench.labels import list_first
from numa_bench.machine.allocation import Allocation
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.plan import Plan
from numa_bench.profiling.launch import Profiler, find_profiler
from numa_bench.records import RunSpec
from numa_bench.redaction import redact_uri
from numa_bench.runner.resume import check_directory, read_stored
from numa_bench.terminal.progress import show_progress

T = TypeVar("T")
Job = Sequence[str]
#: The most numbers of jobs that an error lists.
_JOBS_SHOWN = 8
#: From how many jobs on it is said that they are checked, which takes about 0.1 s each.
_MANY_JOBS = 50


@dataclass(frozen=True)
class CheckedStudy:
    """A study that was planned: the runs that it would do, and in one line what these are.

    `jobs` are those whose runs it has, several if it is an interleaved sweep. `here`: it is planned
    for this machine.
    """

    jobs: list[StudyJob]
    plan: Plan
    topology: Topology
    left: list[RunSpec]
    summary: str
    here: bool

    @property
    def config(self) -> RunnerConfig:
        """The settings of the study, which are those of each job but for what cells are made of."""
        return self.jobs[0].config


def check_jobs(jobs: Sequence[Job], attempt: Callable[[Job], T]) -> tuple[list[str], list[T]]:
    """What `attempt` says is wrong with each job, in lines, and what it returns for the others."""
    wrong: dict[str, list[int]] = {}
    accepted: list[T] = []
    with show_progress("checking jobs", len(jobs), _MANY_JOBS) as note_done:
        for number, job in enumerate(jobs):
            errors, result = find_mistakes(job, attempt)
            for text in errors:
                wrong.setdefault(text, []).append(number)
            if result is not None:
                accepted.append(result)
            note_done(number + 1)
    names = name_jobs(jobs)
    return [_name_wrong(text, numbers, names) for text, numbers in wrong.items()], accepted


def name_jobs(jobs: Sequence[Job]) -> list[str]:
    """For each job the overrides in which it differs from others, else all, as one text."""
    differences = zip(jobs, list_differences(jobs), strict=True)
    return [",".join(map(redact_uri, words or job)) for job, words in differences]


def list_differences(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """For each job the overrides in which it differs from others."""
    shared = Counter(word for job in jobs for word in set(job))
    return [tuple(word for word in job if shared[word] < len(jobs)) for job in jobs]


def find_mistakes(
    overrides: Sequence[str], attempt: Callable[[Sequence[str]], T]
) -> tuple[list[str], T | None]:
    """What `attempt` says is wrong with the overrides, and what it returns without those at fault.

    An error names the key of an override, or quotes it; the next one shows when that override is
    left out. An error of what is left that names none may come of leaving one out, and is not
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
        wrong = wrong or [override for override in rest if _is_quoted(override, text)]
        if wrong or not errors:
            errors.append(text)
        if not wrong:
            return errors, None
        rest = [override for override in rest if override not in wrong]


class Planner:
    """Plans studies for this machine, or for the `other` one, which it looks at once.

    `probe`: nsys is tried, which takes a processor for a second. `alone`: the jobs are not several
    of one sweep, which could be interleaved.
    """

    def __init__(
        self,
        other: Topology | None,
        config_name: str = CONFIG_NAME,
        *,
        probe: bool,
        alone: bool = True,
    ) -> None:
        self._probe = probe
        self._alone = alone
        self._other = other
        self._config_name = config_name
        self._profilers: dict[str, Profiler] = {}
        self._machines: dict[str | None, tuple[Topology, tuple[Gpu, ...], Allocation]] = {}

    def check_study(self, overrides: Sequence[str]) -> CheckedStudy:
        """Compose, validate and plan a single job. Raises the error that a run would raise."""
        composed, jobs = load_job(overrides, self._config_name)
        if self._alone and len(jobs) == 1:
            refuse_single(jobs[0].config)
        words = run.read_task_overrides(composed.hydra)
        directory = Path(jobs[0].config.resume_from or OmegaConf.select(composed, "hydra.run.dir"))
        study = self.plan_jobs(jobs, directory)
        check_directory(directory, study.plan, words)
        _check_writable(directory, resumed=jobs[0].config.resume_from is not None)
        return study

    def check_start(self, overrides: Sequence[str]) -> CheckedStudy:
        """`check_study`, and what a study tries at its start on this machine, but for its GPUs.

        Those would take seconds of a processor, beside what others may be measuring.
        """
        study = self.check_study(overrides)
        if study.here:
            for check in run.list_machine_checks(study.jobs, study.plan, study.topology):
                check()
        return study

    def plan_jobs(self, jobs: list[StudyJob], directory: Path | None = None) -> CheckedStudy:
        """Plan the study of these jobs; `directory` is that of one which may be there already.

        Raises ConfigError, MachineError or StoreError.
        """
        from numa_bench.runner.display.left import describe_left, describe_plan, find_left

        config = jobs[0].config
        here = self._other is None and config.topology_root is None
        if self._other is not None:
            if config.topology_root is not None:
                raise ConfigError(
                    "topology_root", config.topology_root, "cannot be combined with --topology"
                )
            topology, visible, allocation = self._other, self._other.gpus, Allocation()
        else:
            topology, visible, allocation = self._find_machine(config.topology_root)
        profiler = self._find_profiler(config, here=here)
        plan = run.plan_study(jobs, topology, visible, profiler, allocation)
        stored = read_stored(directory, plan) if directory is not None else None
        left = find_left(plan, stored or ())
        what = describe_plan(plan) if stored is None else describe_left(plan, stored, left)
        return CheckedStudy(jobs, plan, topology, left, f"{plan.study}: {what}", here)

    def _find_machine(self, root: str | None) -> tuple[Topology, tuple[Gpu, ...], Allocation]:
        if root not in self._machines:
            topology, visible = discover_machine(root)
            allocation = discover_allocation(root, topology)
            self._machines[root] = topology, visible, allocation
        return self._machines[root]

    def _find_profiler(self, config: RunnerConfig, *, here: bool) -> Profiler:
        """The profiler here; on another machine one that was asked for by name is believed."""
        kind = config.profiler.kind
        if not here:
            return Profiler(kind if kind != "auto" else "none", config.profiler)
        key = repr(config.profiler)
        if key not in self._profilers:
            self._profilers[key] = find_profiler(config.profiler, probe=self._probe)
        return self._profilers[key]


def plan_interleaved(
    jobs: Sequence[Job], studies: Sequence[CheckedStudy], planner: Planner
) -> CheckedStudy | None:
    """The study of all jobs, each of which was checked by itself; None if they are not interleaved.

    Raises ConfigError if the jobs cannot be measured in one study.
    """
    if any(len(study.jobs) > 1 for study in studies):
        return None  # each is an interleaved sweep already, which is resumed
    if not check_interleaved([study.config for study in studies]):
        return None
    differences = list_differences(jobs)
    joined = [
        StudyJob(study.config, find_touched_models(words), differing)
        for study, words, differing in zip(studies, jobs, differences, strict=True)
    ]
    return planner.plan_jobs(joined)


def load_job(
    overrides: Sequence[str], config_name: str = CONFIG_NAME
) -> tuple[DictConfig, list[StudyJob]]:
    """What Hydra composes for a job, and its validated settings as for a run, not a dry run.

    There are several settings where an interleaved sweep is resumed. Raises the error that a run
    would raise.
    """
    composed = compose_job(overrides, config_name)
    hydra_app.check_resume_value(composed.resume_from)
    node = _without_dry_run(remove_hydra(composed))
    jobs = load_jobs(node, run.read_task_overrides(composed.hydra))
    if jobs[0].config.interleave:
        check_single_process(composed.hydra.launcher)
    return composed, jobs


def _without_dry_run(node: DictConfig) -> DictConfig:
    """The node as for a run, but for a captured tree, with which only dry runs are accepted."""
    node.dry_run = node.topology_root is not None
    return node


def _check_writable(directory: Path, *, resumed: bool) -> None:
    """Raise StoreError if a study's directory could not be made or written. Writes nothing."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir():
        raise StoreError(f"{existing} is no directory; choose another output.root")
    if not os.access(existing, os.W_OK | os.X_OK):
        remedy = "get write permission" if resumed else "choose another output.root"
        raise StoreError(f"{existing} cannot be written; {remedy}")


def _is_named(override: str, error: str) -> bool:
    """Whether an error, which begins with a key, is about this override."""
    key = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", override.lstrip("+~").partition("=")[0])
    place = re.split("[=:]", error.lstrip("+~"), maxsplit=1)[0]
    # The key of a group alone (experiment=...) is in front of too many others.
    return place == key or ("." in key and place.startswith((f"{key}.", f"{key}[")))


def _is_quoted(override: str, error: str) -> bool:
    """Whether an error about another key has this override's last word and value: depth=7."""
    key, equals, value = override.partition("=")
    last = re.split(r"[./]", key)[-1]
    return bool(value) and re.search(rf"\b{re.escape(last + equals + value)}\b", error) is not None


def _name_wrong(text: str, numbers: Sequence[int], names: Sequence[str]) -> str:
    """An error with the jobs that have it, unless all have."""
    if len(numbers) == len(names):
        return text
    if len(numbers) == 1:
        return f"job {numbers[0]} ({names[numbers[0]]}): {text}"
    return f"jobs {list_first(list(map(str, numbers)), _JOBS_SHOWN)}: {text}"
