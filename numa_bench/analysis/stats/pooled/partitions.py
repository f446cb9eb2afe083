"""Many hosts without one table of all their runs: each host is analysed by itself, and forgotten.

What is kept of a host is its pooled effects and its environment, some kilobytes, so that the memory
of a fleet's comparison does not grow with its runs. No statistic is lost: nothing is pooled across
hosts in one table either (see `hosts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from numa_bench.analysis.read.groups import compare_values, describe_groups, group_table
from numa_bench.analysis.read.runs import Filters, Loaded, Problem, load_studies
from numa_bench.analysis.read.sweeps import find_sequential_sweeps
from numa_bench.analysis.stats.pooled.headline import write_headline
from numa_bench.analysis.stats.pooled.hosts import HostComparison, compare_hosts, name_groups
from numa_bench.analysis.stats.pooled.table import BOUND, MODEL, pool_effects
from numa_bench.analysis.stats.tables import build_each_metric
from numa_bench.study_files import read_summary


@dataclass(frozen=True)
class Partition:
    """One host: its rows of `pooled.table`, its groups, and their properties by group.

    `verdicts` has the sentences on the pooled effects of each group that has some; `confounded`
    those on sweeps whose jobs were measured one after another.
    """

    pooled: pd.DataFrame
    groups: pd.DataFrame
    properties: dict[str, dict[str, str]]
    runs: int
    verdicts: dict[str, str] = field(default_factory=dict)
    confounded: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Fleet:
    """Hosts that were analysed one after the other.

    `pooled` and `groups` are tables as of one table of all runs, `names` those of the groups,
    `verdicts` the sentences on each group.
    """

    pooled: pd.DataFrame
    groups: pd.DataFrame
    hosts: HostComparison
    names: dict[str, str]
    verdicts: dict[str, str]
    runs: int
    confounded: tuple[str, ...]
    problems: tuple[Problem, ...]


def group_by_host(paths: Iterable[Path]) -> list[list[Path]]:
    """Files results.json in lists, so that all studies of a host are in the same one.

    A study that was resumed on another host joins the studies of both.
    """
    parts: list[tuple[set[str], list[Path]]] = []
    for path in paths:
        summary = read_summary(path.parent)
        environments = [summary["machine"], *summary["environments"].values()]
        # Without a summary nothing is known: such a study could be of any host.
        hosts = {str(one.get("host", "")) for one in environments if one} or {""}
        joined = [part for part in parts if part[0] & hosts]
        files = [file for _, own in joined for file in own]
        parts = [part for part in parts if part not in joined]
        parts.append((hosts.union(*(own for own, _ in joined)), [*files, path]))
    return [files for _, files in parts]


def summarize_partition(loaded: Loaded, target: float) -> Partition:
    """What of one host's runs its comparison with others needs; `target` as in `pool_effects`."""
    frame = loaded.frame
    pooled = build_each_metric(frame, pool_effects, target=target)
    headlines = {
        str(group): write_headline(pooled[pooled["group"] == group], target)
        for group in pooled["group"].unique()
    }
    return Partition(
        pooled=pooled[pooled["level"].isin([BOUND, MODEL])],
        groups=group_table(frame),
        properties=describe_groups(loaded),
        runs=len(frame),
        verdicts={group: found.text for group, found in headlines.items() if found is not None},
        confounded=tuple(sweep.warning for sweep in find_sequential_sweeps(frame, loaded.studies)),
        problems=loaded.problems,
    )


def load_partitions(
    sources: Iterable[Sequence[Path]], target: float, filters: Filters | None = None
) -> Iterator[Partition]:
    """Load and summarize one host after the other: each item is the results.json of its studies.

    Raises StoreError for a path that does not exist.
    """
    for paths in sources:
        yield summarize_partition(load_studies(list(paths), "all", filters), target)


def join_partitions(partitions: Iterable[Partition], target: float) -> Fleet:
    """The same comparison that one table of all runs gives."""
    parts = list(partitions)
    columns = {group: values for part in parts for group, values in part.properties.items()}
    groups = _concat([part.groups for part in parts])
    pooled = _concat([part.pooled for part in parts])
    differences = compare_values(columns)
    return Fleet(
        pooled=pooled,
        groups=groups,
        hosts=compare_hosts(pooled, groups, differences, target),
        names=name_groups(groups, differences) if len(groups) else {},
        verdicts={group: text for part in parts for group, text in part.verdicts.items()},
        runs=sum(part.runs for part in parts),
        confounded=tuple(text for part in parts for text in part.confounded),
        problems=tuple(problem for part in parts for problem in part.problems),
    )


def _concat(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    found = [table for table in tables if not table.empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
