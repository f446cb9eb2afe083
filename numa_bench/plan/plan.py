"""Turn a configuration and a topology into an ordered list of runs. Pure."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from numa_bench.config.output_schema import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.config.schema import ExperimentConfig, RunnerConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.cells import make_cells, make_run_id_prefix
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.profiling.launch import Profiler
from numa_bench.records import RunSpec


@dataclass(frozen=True)
class Plan:
    """A study that is ready to run: its runs in order, and the settings for running them."""

    study: str
    cells: tuple[RunSpec, ...]  # ordered by device, placement, model
    runs: tuple[RunSpec, ...]  # every cell `repeats` times, in the order to run
    output: OutputConfig
    order: str
    order_seed: int
    monitor_interval_s: float = 0.0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    profiler: Profiler = field(default_factory=lambda: Profiler("none", ProfilerConfig()))
    dry_run: bool = False
    debug: bool = False
    resume_from: str | None = None
    topology_root: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def estimated_s(self) -> float:
        """Upper estimate of the whole study in seconds."""
        return sum(estimate_run_s(run) for run in self.runs)


def build_plan(
    config: RunnerConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    touched: frozenset[int] = frozenset(),
    profiler: Profiler | None = None,
) -> Plan:
    """Plan a validated configuration on a machine.

    `visible` are the GPUs that this process may use; `profiler` is the result of `find_profiler`.
    `touched` are the vit_configs entries that the command line changed. Such an entry may become
    equal to another (in a sweep over depth, for example); it is then measured once, with a
    warning. Any other two equal runs raise ConfigError.
    """
    experiment = shrink_for_debug(config.experiment) if config.debug else config.experiment
    if config.resume_from:  # its models were accepted when the study first started
        touched = frozenset(range(len(experiment.vit_configs)))
    profiler = profiler or Profiler("none", config.profiler)
    cells, warnings = make_cells(experiment, topology, visible, touched, profiler.to_spec())
    return Plan(
        study=experiment.name,
        cells=tuple(cells),
        runs=_ordered(cells, experiment),
        output=config.output,
        profiler=profiler,
        # Debug runs are no results, so no tracker gets them.
        tracking=TrackingConfig() if config.debug else config.tracking,
        order=experiment.order,
        order_seed=experiment.order_seed,
        monitor_interval_s=experiment.monitor_interval_s,
        dry_run=config.dry_run,
        debug=config.debug,
        resume_from=config.resume_from,
        topology_root=config.topology_root,
        warnings=tuple(dict.fromkeys(warnings)),
    )


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
    sets = replace(experiment.contention, window_s=min(experiment.contention.window_s, 0.2))
    test = replace(experiment.test, **small)
    return replace(experiment, repeats=1, vit_configs=vits, test=test, contention=sets)


def _ordered(cells: list[RunSpec], experiment: ExperimentConfig) -> tuple[RunSpec, ...]:
    """Every cell once per block, in seeded random order, so that drift is not mistaken for NUMA."""
    # One generator for all blocks: more repeats append blocks and leave the first as they were.
    shuffle = random.Random(experiment.order_seed)
    runs: list[RunSpec] = []
    for repeat in range(experiment.repeats):
        block = list(cells)
        if experiment.order == "shuffled":
            shuffle.shuffle(block)
        for cell in block:
            run_id = f"{make_run_id_prefix(cell)}_r{repeat}-{cell.cell_hash()[:6]}"
            runs.append(cell.with_id(run_id, repeat))
    twice = [run_id for run_id, count in Counter(run.run_id for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(
            "experiment.vit_configs",
            twice[0],
            "two different runs have this id; give the models different names",
        )
    return tuple(runs)
