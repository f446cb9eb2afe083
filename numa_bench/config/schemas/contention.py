"""Settings of a contention study: which sets of workers start together, beside what; their checks.

See `schema.py` for the rest and for how it is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from numa_bench.config.checks import check_at_least, check_one_of, check_seconds
from numa_bench.config.schemas.workload import OVERRIDABLE
from numa_bench.config.settings import documented_field
from numa_bench.errors import ConfigError
from numa_bench.records.measuring import OPERATIONS

if TYPE_CHECKING:
    from numa_bench.config.schema import ExperimentConfig


SCENARIOS = ("alone", "alone_remote", "socket", "all_local", "all_remote", "crossed")
#: No load beside a set, load on the link between the sockets, load on the memory that it uses.
NO_LOAD, LINK_LOAD, MEMORY_LOAD = "none", "socket_link", "memory"
BACKGROUNDS = (NO_LOAD, LINK_LOAD, MEMORY_LOAD)
KEY = "experiment.contention"
#: Settings that a set decides itself, and what decides instead.
_OF_THE_SET = {
    "num_samples": f"the windows of a set end together; use {KEY}.window_s, and remove this key",
    "min_timed_s": f"the windows of a set end together; use {KEY}.window_s, and remove this key",
    "cuda_graph": "a replay does not time single batches, which the common window of a set needs; "
    "remove this key",
}


@dataclass(kw_only=True, slots=True)
class ContentionConfig:
    """Sets of workers that start together (experiment.workload=contention)."""

    scenarios: list[str] = documented_field(
        list(SCENARIOS),
        "Which sets: alone (each GPU by itself, CPUs and memory on its node), alone_remote (the "
        "same, on another socket), socket (the GPUs of a socket, each local), all_local, "
        "all_remote, crossed (all GPUs, CPUs local, memory on another socket). What the machine "
        "cannot form is left out with a warning.",
    )
    background: list[str] = documented_field(
        [NO_LOAD],
        f"Loads beside the sets, each combined with every scenario: {', '.join(BACKGROUNDS)}. "
        "socket_link: one worker for each direction between two sockets; memory: one worker on "
        "each node whose memory the set uses.",
    )
    background_threads: int = documented_field(
        2, "Threads of each background worker. Their CPUs are kept free of the measured workers."
    )
    background_operation: str = documented_field(
        "copy", f"What background workers do with memory: {', '.join(OPERATIONS)}."
    )
    workers_per_node: Optional[int] = documented_field(
        None,
        "Without a GPU: workers on each node, on disjoint CPUs. null: one for each CPU, 4 at most.",
    )
    operation: str = documented_field(
        "read", f"Without a GPU: what the workers do with memory: {', '.join(OPERATIONS)}."
    )
    buffer_mb: Optional[int] = documented_field(
        None,
        "MB of each array that a worker streams, in the background too. null: twice the "
        "last-level cache of the largest node, at least 256.",
    )
    window_s: float = documented_field(
        2.0, "Length of the timed window in seconds; all workers of a set time the same one."
    )


def check_contention(experiment: ExperimentConfig) -> None:
    """Raise ConfigError for the first setting that a contention study cannot use."""
    contention = experiment.contention
    for name, choices in (("scenarios", SCENARIOS), ("background", BACKGROUNDS)):
        chosen = getattr(contention, name)
        if not chosen:
            raise ConfigError(f"{KEY}.{name}", "[]", f"use some of {', '.join(choices)}")
        for item in chosen:
            check_one_of(f"{KEY}.{name}", item, choices)
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"{KEY}.{name}", chosen, "list each of them once")
    for name in ("operation", "background_operation"):
        check_one_of(f"{KEY}.{name}", getattr(contention, name), OPERATIONS)
    for name in ("background_threads", "workers_per_node", "buffer_mb"):
        value = getattr(contention, name)
        if value is not None:
            check_at_least(f"{KEY}.{name}", value, 1)
    check_seconds(f"{KEY}.window_s", contention.window_s)
    if contention.window_s == 0:
        raise ConfigError(f"{KEY}.window_s", 0, "must be greater than 0")
    _check_replaced(experiment)


def _check_replaced(experiment: ExperimentConfig) -> None:
    """Raise ConfigError for settings of other studies that would have no effect in this one."""
    defaults = type(experiment.test)()
    for name, reason in _OF_THE_SET.items():
        if getattr(experiment.test, name) != getattr(defaults, name):
            raise ConfigError(f"experiment.test.{name}", getattr(experiment.test, name), reason)
        for index, vit in enumerate(experiment.vit_configs):
            own = getattr(vit, name) if name in OVERRIDABLE else None
            if own not in (None, getattr(defaults, name)):
                raise ConfigError(f"experiment.vit_configs[{index}].{name}", own, reason)
    hardware, plain = experiment.hardware, type(experiment.hardware)()
    for name in ("numa_nodes", "memory_nodes", "physcpu"):
        if getattr(hardware, name) != getattr(plain, name):
            raise ConfigError(
                f"experiment.hardware.{name}",
                getattr(hardware, name),
                f"a contention study places its workers by {KEY}.scenarios; remove this key",
            )
    if len(str(hardware.cpu_affinity).split(",")) > 1:
        raise ConfigError(
            "experiment.hardware.cpu_affinity",
            hardware.cpu_affinity,
            "the workers of a set have the same affinity; use one, and a sweep (-m) for others",
        )
    policies = ("bind", "preferred")
    if hardware.memory_policy not in policies:
        raise ConfigError(
            "experiment.hardware.memory_policy",
            hardware.memory_policy,
            f"the scenarios put memory on one node; use {' or '.join(policies)}",
        )
