"""Turn a configuration and a topology into an ordered list of runs. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from numa_bench.config.output_schema import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.config.schema import ExperimentConfig, RunnerConfig, TestConfig, ViTConfig
from numa_bench.config.validation import merge_test_settings
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.placements import NODES_KEY, resolve_placements
from numa_bench.profiling.launch import Profiler
from numa_bench.profiling.recording import records_separately
from numa_bench.records import Placement, ProfileSpec, RunSpec, TestSpec, VitSpec

#: Floor of the sample pool, used alone where no cache size is reported. A choice: eight times the
#: last-level cache of a desktop CPU (32 MB).
MIN_POOL_MB = 256
#: What `auto` and null mean. On a GPU clocks settle within about a second, and two seconds hold
#: ten or more readings of the sensors at 5 Hz; on the CPU samples are counted.
CPU_SAMPLES = 2000
GPU_TIMED_S = 2.0
GPU_WARMUP_S = 1.0
#: Rough costs, used only in the estimate shown to the user: process start with torch, and a cold
#: torch.compile of a small ViT on two cores (measured: benchmarks/results).
STARTUP_S = 3.0
COMPILE_S = 30.0
#: Starting and ending nsys, or writing a torch trace; rough, as above.
PROFILE_S = 2.0


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


def estimate_run_s(run: RunSpec) -> float:
    """Upper estimate of one run in seconds, shown to the user."""
    compile_s = COMPILE_S if run.test.compile_model and run.vit.depth else 0.0
    timed_s = run.test.time_budget_s
    if run.test.num_samples == 0:  # by time
        # The window then ends when its minimum is reached.
        timed_s = min(timed_s, run.test.min_timed_s)
    window = run.test.warmup_budget_s + timed_s
    profile_s = PROFILE_S + run.profile.budget_s if run.profile.kind != "none" else 0.0
    if records_separately(run):
        # Two processes, each with a timeout of its own: one measures, one records.
        apart = STARTUP_S + compile_s + run.test.warmup_budget_s + profile_s
        measured = STARTUP_S + compile_s + window
        return min(run.test.timeout_s, measured) + min(run.test.timeout_s, apart)
    return min(run.test.timeout_s, STARTUP_S + compile_s + window + profile_s)


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
    cells, warnings = _make_cells(experiment, topology, visible, touched, profiler.to_spec())
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
    return replace(experiment, repeats=1, vit_configs=vits, test=replace(experiment.test, **small))


def _make_cells(
    experiment: ExperimentConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    touched: frozenset[int],
    profile: ProfileSpec,
) -> tuple[list[RunSpec], list[str]]:
    """Every distinct cell in the order of tables, and a warning for each duplicate left out."""
    cells: dict[str, RunSpec] = {}
    warnings: list[str] = []
    for gpu in resolve_devices(experiment, topology, visible):
        for placement in resolve_placements(experiment.hardware, topology, gpu):
            for index, vit in enumerate(experiment.vit_configs):
                spec = _cell(experiment, topology, gpu, placement, vit, profile)
                key = spec.cell_hash()
                if key not in cells:
                    cells[key] = spec
                elif _same_model_as_touched(experiment, index, touched):
                    warnings.append(
                        f"experiment.vit_configs[{index}] equals another entry; measured once"
                    )
                else:
                    _refuse_duplicate(experiment, spec)
    return list(cells.values()), warnings


def _cell(
    experiment: ExperimentConfig,
    topology: Topology,
    gpu: Gpu | None,
    placement: Placement,
    vit: ViTConfig,
    profile: ProfileSpec,
) -> RunSpec:
    test = merge_test_settings(experiment.test, vit)
    return RunSpec(
        study=experiment.name,
        run_id="",
        repeat=0,
        vit=resolve_vit(vit),
        test=resolve_test(test, topology, gpu=gpu is not None),
        device=make_device_spec(gpu),
        placement=placement,
        profile=profile,
    )


def resolve_vit(vit: ViTConfig) -> VitSpec:
    """Fill in the sizes that are null. A no-op has no size except its patch size."""
    if vit.depth == 0:
        return VitSpec(vit.name or f"vit{vit.patch_size}x0", vit.patch_size, 0, 0, 0, 0, 0)
    if vit.heads is not None:
        heads = vit.heads
    elif vit.dim_head is not None:
        heads = max(1, vit.dim // vit.dim_head)
    else:
        # 64 per head, as in ViT-B (768 / 12), or the next larger size that divides dim.
        most = max(1, vit.dim // 64)
        heads = next(h for h in range(most, 0, -1) if vit.dim % h == 0)
    return VitSpec(
        name=vit.name or f"vit{vit.patch_size}x{vit.depth}x{vit.dim}",
        patch_size=vit.patch_size,
        depth=vit.depth,
        dim=vit.dim,
        heads=heads,
        dim_head=vit.dim_head or vit.dim // heads,
        # The ratio of ViT (ViT-B: 768 and 3072).
        mlp_dim=vit.mlp_dim or 4 * vit.dim,
    )


def resolve_test(test: TestConfig, topology: Topology, *, gpu: bool) -> TestSpec:
    """Fill in what the configuration leaves open for the device.

    The pool is larger than any node's last-level cache, so that copies read memory. A GPU is warmed
    up and timed by time: its clocks ramp up, and its sensors need readings inside the window.
    """
    pool = test.memory_size_mb
    if pool is None:
        largest = max((node.llc_bytes or 0 for node in topology.nodes), default=0)
        # Twice the cache: of a ring that just exceeds it some would still be found there.
        pool = max(MIN_POOL_MB, math.ceil(2 * largest / 1e6))
    resolved = {
        "memory_size_mb": pool,
        "num_samples": (0 if gpu else CPU_SAMPLES)
        if test.num_samples == "auto"
        else test.num_samples,
        "min_timed_s": (GPU_TIMED_S if gpu else 0.0)
        if test.min_timed_s is None
        else test.min_timed_s,
        "min_warmup_s": (GPU_WARMUP_S if gpu else 0.0)
        if test.min_warmup_s is None
        else test.min_warmup_s,
    }
    return TestSpec(**{**asdict(test), **resolved})


def make_run_id_prefix(spec: RunSpec) -> str:
    """The readable part of a run id, without the repeat and the hash."""
    placement = spec.placement
    node = placement.numa_node
    parts = [
        f"gpu{spec.device.gpu_id}" if spec.device.kind == "cuda" else "cpu",
        f"numa{node}" if node is not None else "unbound",
    ]
    if placement.policy in ("bind", "preferred") and placement.memory_nodes not in ((node,), ()):
        parts.append("mem" + "-".join(map(str, placement.memory_nodes)))
    if placement.policy not in ("bind", "none"):
        parts.append(placement.policy)
    vit = spec.vit
    parts.append(f"vit{vit.patch_size}x{vit.depth}" + (f"x{vit.dim}" if vit.depth else ""))
    if spec.test.compile_model:
        parts.append("compiled")
    return "_".join(parts)


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
            runs.append(replace(cell, run_id=run_id, repeat=repeat))
    twice = [run_id for run_id, count in Counter(run.run_id for run in runs).items() if count > 1]
    if twice:
        raise ConfigError(
            "experiment.vit_configs",
            twice[0],
            "two different runs have this id; give the models different names",
        )
    return tuple(runs)


def _same_model_as_touched(
    experiment: ExperimentConfig, index: int, touched: frozenset[int]
) -> bool:
    """Whether this entry, or the earlier one that it equals, was changed on the command line."""
    model = _resolved_pair(experiment, index)
    twins = [i for i in range(index) if _resolved_pair(experiment, i) == model]
    return bool(twins) and bool(touched & {index, *twins})


def _resolved_pair(experiment: ExperimentConfig, index: int) -> tuple[VitSpec, TestConfig]:
    vit = experiment.vit_configs[index]
    return resolve_vit(vit), merge_test_settings(experiment.test, vit)


def _refuse_duplicate(experiment: ExperimentConfig, spec: RunSpec) -> None:
    """Raise ConfigError for the setting, models or nodes, that lists the same thing twice."""
    pairs = [_resolved_pair(experiment, i) for i in range(len(experiment.vit_configs))]
    if any(pair in pairs[:i] for i, pair in enumerate(pairs)):
        raise ConfigError(
            "experiment.vit_configs",
            spec.vit.name,
            "is listed twice with the same settings; remove one or rename it, or use repeats",
        )
    raise ConfigError(
        NODES_KEY,
        experiment.hardware.numa_nodes,
        f"plans {make_run_id_prefix(spec)} twice; list each node once, or use experiment.repeats",
    )
