"""Many hosts without one table of all their runs: each host is analysed by itself, and forgotten.

What is kept of a host is its pooled effects and its environment, some kilobytes, so that the memory
of a fleet's comparison does not grow with its runs. No statistic is lost: nothing is pooled across
hosts in one table either (see `hosts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from numa_bench.analysis.read.groups import compare_values, describe_groups, group_table
from numa_bench.analysis.read.runs import Loaded, Problem, load_studies
from numa_bench.analysis.stats.pooled.hosts import HostComparison, compare_hosts
from numa_bench.analysis.stats.pooled.table import BOUND, MODEL, pool_effects


@dataclass(frozen=True)
class Partition:
    """One host: its rows of `pooled.table`, its groups, and their properties by group."""

    pooled: pd.DataFrame
    groups: pd.DataFrame
    properties: dict[str, dict[str, str]]
    runs: int
    problems: list[Problem] = field(default_factory=list)


def summarize_partition(loaded: Loaded, target: float) -> Partition:
    """What of one host's runs its comparison with others needs; `target` as in `pool_effects`."""
    frame = loaded.frame
    metrics = [] if frame.empty else list(dict.fromkeys(frame["headline"]))
    tables = [pool_effects(frame[frame["headline"] == m], m, target) for m in metrics]
    kept = [t[t["level"].isin([BOUND, MODEL])] for t in tables if not t.empty]
    return Partition(
        pooled=pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(),
        groups=group_table(frame),
        properties=describe_groups(loaded),
        runs=len(frame),
        problems=loaded.problems,
    )


def load_partitions(sources: Iterable[list[Path]], target: float) -> Iterator[Partition]:
    """Load and summarize one host after the other: each item is the results.json of its studies.

    Raises StoreError for a path that does not exist.
    """
    for paths in sources:
        yield summarize_partition(load_studies(paths), target)


def compare_partitions(partitions: Iterable[Partition], target: float) -> HostComparison:
    """The same comparison that one table of all runs gives."""
    parts = list(partitions)
    pooled = [part.pooled for part in parts if not part.pooled.empty]
    if not pooled:
        return HostComparison()
    columns = {group: values for part in parts for group, values in part.properties.items()}
    groups = pd.concat([part.groups for part in parts], ignore_index=True)
    return compare_hosts(
        pd.concat(pooled, ignore_index=True), groups, compare_values(columns), target
    )
