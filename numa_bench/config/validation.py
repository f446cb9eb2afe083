"""Checks that types cannot express: ranges, choices, and settings that contradict each other.

Each failure is a ConfigError with the full key as typed on the command line, the value and the
fix. Pure: nothing here inspects the machine.
"""

from __future__ import annotations

from typing import Any

from numa_bench.config import schema as cfg
from numa_bench.config.checks import (
    check_at_least,
    check_count_or_auto,
    check_name,
    check_one_of,
    check_seconds,
    check_study_name,
)
from numa_bench.config.command_parsing import check_command
from numa_bench.config.durations import parse_duration
from numa_bench.config.id_lists import (
    MEMORY_WORDS,
    NODE_WORDS,
    parse_gpu_groups,
    parse_id_list,
    split_list,
)
from numa_bench.config.magnitudes import check_magnitudes
from numa_bench.config.model_validation import check_custom_model, is_custom
from numa_bench.config.output_validation import check_output, check_profiler, check_tracking
from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas import workload as workload
from numa_bench.config.schemas.bandwidth import check_bandwidth
from numa_bench.config.schemas.contention import check_contention
from numa_bench.config.schemas.isolation import check_isolation
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.errors import ConfigError

#: A reading takes up to 50 ms with a GPU, mostly waiting for NVML's two PCIe counters (20 ms
#: each); twice that leaves the monitor idle for half of the time.
MIN_INTERVAL_S = 0.1

_AT_LEAST_ONE = ("image_size", "channels", "memory_size_mb", "cpu_threads", "host_threads")
#: Counts that may be left to the device, with a value for the error text.
_COUNT_OR_AUTO = {"num_samples": 2000, "batch_size": 128, "pipeline_depth": 2}
#: Workloads that run no model, and the checks of their settings.
_WITHOUT_MODELS = {
    "bandwidth": lambda study: check_bandwidth("experiment.bandwidth", study.bandwidth),
    "command": check_command,
}


def validate_config(config: RunnerConfig) -> None:
    """Raise ConfigError for the first setting that cannot be used."""
    check_magnitudes(config)  # first: other errors may come of a number and name another setting
    check_output(config.output)
    check_profiler(config.profiler)
    check_tracking(config.tracking)
    check_isolation(config.isolation)
    check_experiment(config.experiment)
    if config.time_limit != cfg.EXPERIMENTS_OWN:
        parse_duration("time_limit", config.time_limit)
    if config.topology_root is not None and not config.dry_run:
        raise ConfigError(
            "topology_root", config.topology_root, "needs dry_run=true; add it, or remove this key"
        )


def check_experiment(experiment: ExperimentConfig) -> None:
    """Raise ConfigError if the experiment cannot run on any machine."""
    check_study_name(experiment.name)
    check_one_of("experiment.workload", experiment.workload, cfg.WORKLOADS)
    check_at_least("experiment.repeats", experiment.repeats, 1)
    check_one_of("experiment.order", experiment.order, cfg.ORDERS)
    interval = experiment.monitor_interval_s
    if not (interval == 0 or interval >= MIN_INTERVAL_S):
        raise ConfigError(
            "experiment.monitor_interval_s",
            interval,
            f"use 0 for no monitor, or at least {MIN_INTERVAL_S}: shorter would disturb the run",
        )
    check_seconds("experiment.monitor_interval_s", interval)
    if experiment.max_gpus is not None:
        check_at_least("experiment.max_gpus", experiment.max_gpus, 1)
    parse_duration("experiment.time_limit", experiment.time_limit)
    check_test("experiment.test", experiment.test)
    hardware = experiment.hardware
    check_one_of("experiment.hardware.device", hardware.device, cfg.DEVICES)
    check_one_of("experiment.hardware.memory_policy", hardware.memory_policy, cfg.POLICIES)
    check_hardware(hardware)
    if experiment.workload in _WITHOUT_MODELS:
        _WITHOUT_MODELS[experiment.workload](experiment)
        if experiment.vit_configs:
            raise ConfigError(
                "experiment.vit_configs",
                f"{len(experiment.vit_configs)} models",
                f"a {experiment.workload} study runs no model; remove them, or use "
                "workload=pipeline",
            )
        return
    if not experiment.vit_configs:
        raise ConfigError("experiment.vit_configs", [], "give at least one model")
    for index, vit in enumerate(experiment.vit_configs):
        key = f"experiment.vit_configs[{index}]"
        check_vit(key, vit, merge_test_settings(experiment.test, vit))
    if experiment.workload == "contention":
        check_contention(experiment)


def check_hardware(hardware: HardwareConfig) -> None:
    """Raise ConfigError if placements are not written as lists, or contradict each other."""
    parse_gpu_groups("experiment.hardware.gpu_ids", hardware.gpu_ids)
    nodes = parse_id_list("experiment.hardware.numa_nodes", hardware.numa_nodes, NODE_WORDS)
    parse_id_list("experiment.hardware.memory_nodes", hardware.memory_nodes, MEMORY_WORDS)
    affinities = parse_affinities(hardware.cpu_affinity)
    cpus = parse_id_list("experiment.hardware.physcpu", hardware.physcpu, words=())
    chosen = "physcpu says which CPUs to use; remove one of the two keys"
    if cpus is not None and nodes is not None:
        raise ConfigError("experiment.hardware.numa_nodes", hardware.numa_nodes, chosen)
    if cpus is not None and affinities != ("node",):
        raise ConfigError("experiment.hardware.cpu_affinity", hardware.cpu_affinity, chosen)
    if cpus == ():
        raise ConfigError(
            "experiment.hardware.physcpu", "[]", "must not be empty; use CPU numbers, or null"
        )
    if nodes and set(nodes) == {"unbound"} and (affinities != ("node",) or not hardware.smt):
        raise ConfigError(
            "experiment.hardware.numa_nodes",
            "unbound",
            "binds no CPUs, so cpu_affinity and smt would have no effect; remove them, or add "
            "other nodes",
        )


def parse_affinities(value: Any) -> tuple[str, ...]:
    """The words of `cpu_affinity`, each once. Raises ConfigError."""
    key = "experiment.hardware.cpu_affinity"
    parts = [] if value is None else split_list(key, value)
    words = tuple(str(part).strip().strip("'\"") for part in parts)
    if not words or set(words) - set(cfg.AFFINITIES) or len(set(words)) < len(words):
        raise ConfigError(key, value, f"use one or more of {', '.join(cfg.AFFINITIES)}, each once")
    return words


def merge_test_settings(test: TestConfig, vit: ViTConfig) -> TestConfig:
    """The `test` settings for one model: its own values where set, else the experiment's."""
    own = {name: getattr(vit, name) for name in workload.OVERRIDABLE}
    return TestConfig(
        **{name: getattr(test, name) if own[name] is None else own[name] for name in own}
    )


def check_test(key: str, test: TestConfig) -> None:
    """Raise ConfigError if a measurement setting is out of range."""
    for name in _AT_LEAST_ONE:
        value = getattr(test, name)
        if value is not None:
            check_at_least(f"{key}.{name}", value, 1)
    for name, example in _COUNT_OR_AUTO.items():
        check_count_or_auto(f"{key}.{name}", getattr(test, name), example)
    check_at_least(f"{key}.warmup_samples", test.warmup_samples, 0)
    check_at_least(f"{key}.seed", test.seed, 0)
    check_seconds(f"{key}.warmup_budget_s", test.warmup_budget_s)
    for name in ("min_timed_s", "min_warmup_s"):
        if getattr(test, name) is not None:
            check_seconds(f"{key}.{name}", getattr(test, name))
    for name in ("time_budget_s", "timeout_s"):
        if not getattr(test, name) > 0:
            raise ConfigError(f"{key}.{name}", getattr(test, name), "must be greater than 0")
        check_seconds(f"{key}.{name}", getattr(test, name))
    check_one_of(f"{key}.precision", test.precision, (*workload.PRECISIONS, workload.AUTO))
    if test.cuda_graph and test.compile_model and test.compile_mode in workload.GRAPH_MODES:
        raise ConfigError(
            f"{key}.cuda_graph",
            True,
            f"compile_mode={test.compile_mode} makes CUDA graphs of its own; use one of the two",
        )
    check_one_of(f"{key}.attention", test.attention, workload.ATTENTIONS)
    check_one_of(f"{key}.compile_mode", test.compile_mode, workload.COMPILE_MODES)
    check_host_side(key, test)


def check_host_side(key: str, test: TestConfig) -> None:
    """Raise ConfigError if host work or host memory is unknown or cannot be combined."""
    check_one_of(f"{key}.host_work", test.host_work, workload.HOST_WORKS)
    check_one_of(f"{key}.host_memory", test.host_memory, workload.HOST_MEMORIES)
    if test.cuda_graph and test.host_work != "none":
        raise ConfigError(
            f"{key}.host_work",
            test.host_work,
            "a CUDA graph replays batches without waiting for host threads; use cuda_graph=false",
        )
    if test.cuda_graph and test.host_memory == "pageable":
        raise ConfigError(
            f"{key}.host_memory",
            test.host_memory,
            "a CUDA graph cannot capture copies of pageable memory; use registered or pinned",
        )
    if test.host_work == "decode" and test.channels not in (1, 3):
        raise ConfigError(
            f"{key}.host_work",
            test.host_work,
            f"JPEG images have 1 or 3 channels, not {test.channels}; use channels=3, or normalize",
        )


def check_vit(key: str, vit: ViTConfig, test: TestConfig) -> None:
    """Raise ConfigError if the model cannot be built or its test settings are invalid."""
    check_test(key, test)
    if vit.name is not None:
        check_name(f"{key}.name", vit.name)
    check_custom_model(key, vit, test)
    if not is_custom(vit):
        _check_sizes(key, vit, test)


def _check_sizes(key: str, vit: ViTConfig, test: TestConfig) -> None:
    """Raise ConfigError if a ViT of these sizes cannot be built."""
    check_at_least(f"{key}.depth", vit.depth, 0)
    check_at_least(f"{key}.patch_size", vit.patch_size, 1)
    if vit.patch_size > test.image_size:
        raise ConfigError(
            f"{key}.patch_size",
            vit.patch_size,
            f"larger than the image ({test.image_size} px); use a smaller patch or a larger "
            "image_size",
        )
    if test.image_size % vit.patch_size:
        down = max(vit.patch_size, test.image_size // vit.patch_size * vit.patch_size)
        raise ConfigError(
            f"{key}.patch_size",
            vit.patch_size,
            f"does not divide image_size={test.image_size}; use image_size={down}, or a patch "
            "size that divides it",
        )
    for name in ("dim", "heads", "dim_head", "mlp_dim"):
        value = getattr(vit, name)
        if value is not None:
            check_at_least(f"{key}.{name}", value, 1)
    if vit.dim_head is None and vit.heads is not None and vit.dim % vit.heads:
        raise ConfigError(
            f"{key}.heads",
            vit.heads,
            f"does not divide dim={vit.dim}; use a divisor of dim, or set dim_head as well",
        )
