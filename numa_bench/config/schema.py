"""Structured configs: every setting with its type, default and help text.

The classes are registered in Hydra's ConfigStore, so unknown keys and wrong types are rejected
when the config is composed (`+typo=1` is an error because of `slots=True`). `validation.py` checks
what types cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from numa_bench.config.schemas.bandwidth import BandwidthConfig
from numa_bench.config.schemas.command import CommandConfig
from numa_bench.config.schemas.contention import ContentionConfig
from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.config.schemas.output import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.config.settings import documented_field

POLICIES = ("bind", "preferred", "interleave", "local", "none")
DEVICES = ("auto", "cuda", "cpu")
AFFINITIES = ("node", "socket", "exclusive", "core-complex")
#: The runner's time_limit where the experiment's counts.
EXPERIMENTS_OWN = "auto"
ORDERS = ("shuffled", "sequential")
WORKLOADS = ("pipeline", "bandwidth", "contention", "command")


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Where runs are placed. Lists may be given as [0,1], 0, "0,1" or "0-3"."""

    device: str = documented_field(
        "auto", "auto (GPUs if there are any, else the CPU), cuda or cpu."
    )
    gpu_ids: Any = documented_field(
        None,
        "GPUs by number (PCI order, as in nvidia-smi) or UUID, each measured separately; in a "
        "command study 0+4 is one run that sees both. null: every visible GPU "
        "(CUDA_VISIBLE_DEVICES is honoured). [] or '': the CPU.",
    )
    numa_nodes: Any = documented_field(
        None,
        "Nodes to run on, each a separate cell: numbers, all, local, same_socket, other_socket or "
        "remote (relative to each GPU; remote: every node but the local one), unbound (no "
        "numactl), or a list of these. null: with a GPU and no memory_nodes, CPUs and memory each "
        "local and remote, with one node per distance (see docs/placements.md); else all.",
    )
    memory_nodes: Any = documented_field(
        None,
        "Nodes to allocate memory on, crossed with numa_nodes: numbers, all, local, same_socket, "
        "other_socket, remote or same (the CPU node). null: with a GPU the same as numa_nodes, "
        "without one every node with memory. With policy interleave: the set to interleave over "
        "(null: all).",
    )
    memory_policy: str = documented_field(
        "bind", f"numactl memory policy: {', '.join(POLICIES)} (none: only CPUs are bound)."
    )
    cpu_affinity: Any = documented_field(
        "node",
        "CPUs to run on, as torchrun's --numa-binding: node (all of the node), socket (all of its "
        "socket), exclusive (the GPU's share of the node's cores), core-complex (those of one L3 "
        "cache), or a list of these, each a separate cell.",
    )
    physcpu: Any = documented_field(
        None,
        "CPUs to run on by number, such as '0-3,8', instead of numa_nodes and cpu_affinity. null: "
        "those of the nodes.",
    )
    smt: bool = documented_field(
        True, "Whether to use all threads of a core. false: only the first CPU of each core."
    )


@dataclass(kw_only=True, slots=True)
class ExperimentConfig:
    """One study: models x GPUs x placements x repeats."""

    name: str = documented_field(
        MISSING, "Name of the study, and of its directory under the output root."
    )
    workload: str = documented_field("pipeline", f"What runs do: {', '.join(WORKLOADS)}.")
    vit_configs: List[ViTConfig] = documented_field([], "The models to run.")
    test: TestConfig = field(
        default_factory=TestConfig, metadata={"help": "Measurement settings of all models."}
    )
    bandwidth: BandwidthConfig = field(
        default_factory=BandwidthConfig,
        metadata={"help": "What runs with workload=bandwidth measure."},
    )
    hardware: HardwareConfig = field(
        default_factory=HardwareConfig, metadata={"help": "Devices and placements."}
    )
    contention: ContentionConfig = field(
        default_factory=ContentionConfig, metadata={"help": "Sets of workers."}
    )
    command: CommandConfig = field(
        default_factory=CommandConfig,
        metadata={"help": "The program that runs with workload=command execute."},
    )
    repeats: int = documented_field(
        5, "Runs per cell, each a fresh process. Fewer than 3 give no verdict."
    )
    order: str = documented_field(
        "shuffled",
        "shuffled (blocks of every cell once, each block in random order) or sequential.",
    )
    order_seed: int = documented_field(0, "Seed of the random order.")
    monitor_interval_s: float = documented_field(
        0.2, "Seconds between sensor readings during a run. 0 disables the monitor."
    )
    max_gpus: Optional[int] = documented_field(None, "Maximum number of GPUs to use. null: all.")
    time_limit: Any = documented_field(
        None,
        "Longest duration of the study, such as 1h, 30m or 90 (seconds): repeats that are not "
        "expected to fit are cut, every cell once at least. null: none.",
        kind="duration or null",
    )


@dataclass(kw_only=True, slots=True)
class RunnerConfig:
    """The whole configuration of hydra_experiment_runner.py."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    profiler: ProfilerConfig = field(default_factory=ProfilerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    isolation: IsolationConfig = field(default_factory=IsolationConfig)
    command: Any = documented_field(
        None,
        "Short for experiment.command.argv, with experiment=command_study: the command to run "
        "under each placement.",
        kind="text or list of texts",
    )
    dry_run: bool = documented_field(
        False, "Check everything and print the run matrix without running anything."
    )
    debug: bool = documented_field(
        False,
        "Few samples, one repeat and no trackers, written to <root>/debug, which is overwritten "
        "each time. A directory with anything but a debug study is refused.",
    )
    interleave: bool = documented_field(
        False,
        "With -m: measure the runs of all jobs as one study, in one random order, so that what the "
        "sweep compares is not confounded with time (docs/sweeps.md).",
    )
    resume_from: Optional[str] = documented_field(
        None,
        "Directory of a study or a sweep to complete: runs that passed are kept, the others are "
        "run (again).",
    )
    time_limit: Any = documented_field(
        EXPERIMENTS_OWN,
        "Longest duration of the study, such as 1h, 30m or 90 (seconds), in place of "
        "experiment.time_limit; null: none. With resume_from, time_limit=null runs what was cut.",
        kind="duration, null or auto",
    )
    topology_root: Optional[str] = documented_field(
        None, "Plan for the machine in this captured sysfs tree (dry runs only)."
    )


def register_configs() -> None:
    """Register the schemas that the YAML files in conf/ refer to. May be called repeatedly."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RunnerConfig)
    store.store(group="experiment", name="schema", node=ExperimentConfig)
    store.store(group="output", name="schema", node=OutputConfig)
    store.store(group="profiler", name="schema", node=ProfilerConfig)
