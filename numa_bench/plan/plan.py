"""Turn a configuration and a topology into an ordered list of runs. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numa_bench.config.jobs import StudyJob
from numa_bench.config.schema import ExperimentConfig, RunnerConfig
from numa_bench.config.schemas.bandwidth import AUTO
from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.config.schemas.output import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.allocation import Allocation
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.allocation import fit_cells
from numa_bench.plan.cells import make_cells, make_run_id_prefix
from numa_bench.plan.distance import add_distances
from numa_bench.plan.estimates import bound_run_s, estimate_run_s
from numa_bench.plan.interleaving import merge_cells
from numa_bench.plan.predictions.blind_spots import find_blind_spots
from numa_bench.plan.predictions.prediction import ModelPrediction, add_expectations, predict_models
from numa_bench.plan.time_limit import TimeLimit, fit_blocks, read_time_limit, split_runs
from numa_bench.profiling.launch import Profiler
from numa_bench.records import BANDWIDTH, COMMAND, CONTENTION, RunSpec

#: Sizes of a bandwidth study with debug=true that leaves them open, in bytes.
DEBUG_SIZES = (4 << 10, 1 << 20)

_NO_TIME_TO_RECORD = (
    "no profile: with it, not every repeat would fit into the time limit (profiler=nsys records "
    "all the same)"
)

#: Most runs of a study. The analysis was tried with 52,800 (75 s, 1.1 GB), and planning 100,000
#: takes seconds; of runs that last a second each, they are a day.
MOST_RUNS = 100_000

#: Workloads without a profiled window, and what has none.
_NO_PROFILE = {
    BANDWIDTH: "a bandwidth run has",
    CONTENTION: "sets of workers have",
    COMMAND: "a command of your own has",
}


@dataclass(frozen=True)
class Plan:
    """A study that is ready to run: its runs in order, and the settings for running them.

    `cut` are the runs for which the time limit leaves no time; they may run when it is resumed.
    `jobs` has the overrides of each job of an interleaved sweep; empty for any other study.
    """

    study: str
    cells: tuple[RunSpec, ...]  # ordered by device, placement, model
    runs: tuple[RunSpec, ...]  # every cell once per block, in the order to run
    output: OutputConfig
    order: str
    order_seed: int
    monitor_interval_s: float = 0.0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    isolation: IsolationConfig = field(default_factory=IsolationConfig)
    profiler: Profiler = field(default_factory=lambda: Profiler("none", ProfilerConfig()))
    dry_run: bool = False
    debug: bool = False
    resume_from: str | None = None
    topology_root: str | None = None
    warnings: tuple[str, ...] = ()
    predictions: tuple[ModelPrediction, ...] = ()
    blind_spots: tuple[str, ...] = ()
    time_limit: TimeLimit | None = None
    allocation: Allocation = field(default_factory=Allocation)
    cut: tuple[RunSpec, ...] = ()
    jobs: tuple[tuple[str, ...], ...] = ()

    @property
    def overwrites(self) -> bool:
        """Whether the study removes that of its directory first: a debug study that starts anew."""
        return self.debug and self.resume_from is None

    @property
    def estimated_s(self) -> float:
        """Expected duration of the whole study in seconds."""
        return sum(map(estimate_run_s, self.runs))

    @property
    def longest_s(self) -> float:
        """Upper estimate of the same: every run uses up its budgets."""
        return sum(map(bound_run_s, self.runs))

    def cut_after(self, kept: int) -> Plan:
        """The plan with the first `kept` blocks only; what it loses is added to `cut`."""
        runs, cut = split_runs(self.runs, kept)
        return replace(self, runs=runs, cut=(*cut, *self.cut))


def build_plan(
    config: RunnerConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    touched: frozenset[int] = frozenset(),
    profiler: Profiler | None = None,
    allocation: Allocation | None = None,
) -> Plan:
    """Plan a validated configuration on a machine.

    `visible` are the GPUs that this process may use, `allocation` what else it was granted (None:
    everything); `profiler` is the result of `find_profiler`.
    `touched` are the vit_configs entries that the command line changed. Such an entry may become
    equal to another (in a sweep over depth, for example); it is then measured once, with a
    warning. Any other two equal runs raise ConfigError.
    """
    job = StudyJob(config, touched)
    return build_joint_plan([job], topology, visible, profiler, allocation)


def build_joint_plan(
    jobs: Sequence[StudyJob],
    topology: Topology,
    visible: tuple[Gpu, ...],
    profiler: Profiler | None = None,
    allocation: Allocation | None = None,
) -> Plan:
    """Plan one study of the cells of all `jobs`, whose other settings are the same.

    Every block has each cell of every job once, so that what differs between jobs is not confounded
    with time. Raises ConfigError also where two jobs have the same cells.
    """
    config = jobs[0].config
    profiler = profiler or Profiler("none", config.profiler)
    granted = allocation or Allocation()
    parts = [_make_job_cells(job, topology, visible, profiler, granted) for job in jobs]
    cells, warnings = parts[0][0], [text for _, texts in parts for text in texts]
    if len(jobs) > 1:
        cells, merged = merge_cells([job.overrides for job in jobs], [own for own, _ in parts])
        warnings += merged
    experiment = _select_experiment(config)
    limit = fit_blocks(cells, experiment, read_time_limit(config))
    if limit is not None and _records_too_long(limit, profiler):
        without = replace(profiler, kind="none", note=_NO_TIME_TO_RECORD)
        return build_joint_plan(jobs, topology, visible, without, allocation)
    predictions = predict_models(cells, topology)
    plan = Plan(
        study=experiment.name,
        cells=tuple(cells),
        runs=_ordered(cells, experiment),
        output=config.output,
        profiler=profiler,
        # Debug runs are no results, so no tracker gets them.
        tracking=TrackingConfig() if config.debug else config.tracking,
        isolation=config.isolation,
        order=experiment.order,
        order_seed=experiment.order_seed,
        monitor_interval_s=experiment.monitor_interval_s,
        dry_run=config.dry_run,
        debug=config.debug,
        resume_from=config.resume_from,
        topology_root=config.topology_root,
        warnings=tuple(dict.fromkeys(warnings)),
        predictions=predictions,
        blind_spots=tuple(find_blind_spots(predictions, topology)),
        time_limit=limit,
        allocation=granted,
        jobs=tuple(job.overrides for job in jobs) if len(jobs) > 1 else (),
    )
    return plan if limit is None else plan.cut_after(limit.kept)


def _make_job_cells(
    job: StudyJob,
    topology: Topology,
    visible: tuple[Gpu, ...],
    profiler: Profiler,
    granted: Allocation,
) -> tuple[list[RunSpec], list[str]]:
    """The cells of one job as they can run here, and warnings."""
    config, touched = job.config, job.touched
    experiment = _select_experiment(config)
    if config.resume_from:  # its models were accepted when the study first started
        touched = frozenset(range(len(experiment.vit_configs)))
    _refuse_profile(config.profiler.kind, experiment.workload)
    cells, warnings = make_cells(experiment, topology, visible, touched, profiler.to_spec())
    cells, not_granted = fit_cells(cells, granted, visible)
    cells = add_distances(add_expectations(cells, topology), topology)
    return cells, [*warnings, *granted.notes, *not_granted]


def _select_experiment(config: RunnerConfig) -> ExperimentConfig:
    return shrink_for_debug(config.experiment) if config.debug else config.experiment


def _refuse_profile(kind: str, workload: str) -> None:
    """Raise ConfigError where a profile is asked for by name and the workload has none."""
    if workload in _NO_PROFILE and kind in ("nsys", "torch"):
        raise ConfigError(
            "profiler.kind",
            kind,
            f"{_NO_PROFILE[workload]} no window to profile; use auto or none",
        )


def _records_too_long(limit: TimeLimit, profiler: Profiler) -> bool:
    """Whether repeats would be cut for profiles that nobody asked for by name."""
    unasked = profiler.kind != "none" and profiler.config.kind == "auto"
    return unasked and (limit.kept < limit.repeats or limit.is_exceeded)


def shrink_for_debug(experiment: ExperimentConfig) -> ExperimentConfig:
    """The same study with a few samples and one repeat, to check that it runs at all."""
    small: dict[str, Any] = {
        "num_samples": 4,
        "min_timed_s": 0.0,
        "min_warmup_s": 0.0,
        "time_budget_s": 1.0,
        "warmup_samples": 1,
        "warmup_budget_s": 1.0,
    }
    # A model's own values would win over the small ones.
    own: dict[str, Any] = dict.fromkeys(small)
    vits = [replace(vit, **own) for vit in experiment.vit_configs]
    bandwidth = replace(experiment.bandwidth, rounds=1, budget_s=1.0)
    if bandwidth.sizes == AUTO:
        bandwidth.sizes = list(DEBUG_SIZES)
    return replace(
        experiment,
        repeats=1,
        vit_configs=vits,
        test=replace(experiment.test, **small),
        bandwidth=bandwidth,
        contention=replace(
            experiment.contention, window_s=min(experiment.contention.window_s, 0.2)
        ),
    )


def _ordered(cells: list[RunSpec], experiment: ExperimentConfig) -> tuple[RunSpec, ...]:
    """Every cell once per block, in seeded random order, so that drift is not mistaken for NUMA."""
    planned = experiment.repeats * len(cells)
    if planned > MOST_RUNS:
        raise ConfigError(
            "experiment.repeats",
            experiment.repeats,
            f"plans {planned:,} runs, and a study has at most {MOST_RUNS:,}; use fewer",
        )
    # One generator for all blocks: more repeats append blocks and leave the first as they were.
    shuffle = random.Random(experiment.order_seed)
    runs: list[RunSpec] = []
    named = [(cell, make_run_id_prefix(cell), cell.cell_hash()[:6]) for cell in cells]
    for repeat in range(experiment.repeats):
        block = list(named)
        if experiment.order == "shuffled":
            shuffle.shuffle(block)
        for cell, prefix, end in block:
            runs.append(cell.with_id(f"{prefix}_r{repeat}-{end}", repeat))
    twice = [run_id for run_id, count in Counter(run.run_id for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(
            "experiment.vit_configs",
            twice[0],
            "two different runs have this id; give the models different names",
        )
    return tuple(runs)
