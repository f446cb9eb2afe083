"""The part of a run's spec that says which program it runs, and what is read of its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Where a metric is looked for: in both outputs, or in one of them.
BOTH, STDOUT, STDERR = "both", "stdout", "stderr"
#: Of several matches the last one, or all of them as a series, whose median is the value.
LAST, ALL = "last", "all"
#: What happens to a run whose memory or threads are not where they were bound: it is invalid, it
#: passes with a warning, or nothing is sampled.
INVALID, WARNING, OFF = "invalid", "warning", "off"


#: The fields of a `CommandSpec` that are commands.
VECTORS = ("argv", "require", "prepare", "cleanup", "check")


@dataclass(frozen=True)
class NamedMetric:
    """One metric of a command: a `regex` over its output, or a `key` of a JSON file that it writes.

    `better` is higher or lower. `stream` and `take` are of regular expressions. `key` is a path of
    names and indices with dots between them, such as "results.0.rate".
    """

    name: str
    better: str
    unit: str
    regex: str | None = None
    stream: str = BOTH
    take: str = LAST
    json: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class CommandSpec:
    """A program as it is started. Texts may hold the placeholders of docs/own-workloads.md.

    `argv` is an argument vector; with `shell` it has one text, for `/bin/sh -c`. `variant` is its
    number among those that the study compares, in their order, from 0. `require`, `prepare`,
    `cleanup` and `check` are argument vectors too, empty where there is none. `least_fraction` of
    the memory must be where it was bound. `sample_s`: seconds between two looks at the memory and
    threads of the process tree; `placement_check` OFF switches them off.
    """

    argv: tuple[str, ...]
    shell: bool = False
    variant: int = 0
    metrics: tuple[NamedMetric, ...] = ()
    warmup: int = 0
    require: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    directory: str | None = None
    placement_check: str = INVALID
    least_fraction: float = 0.95
    sample_s: float = 0.5
    max_output_mb: int = 64


def read_command(data: dict[str, Any]) -> CommandSpec:
    """A CommandSpec after a trip through JSON, which has lists only."""
    vectors = {name: tuple(data[name]) for name in VECTORS}
    metrics = tuple(NamedMetric(**metric) for metric in data["metrics"])
    return CommandSpec(**{**data, **vectors, "metrics": metrics})
