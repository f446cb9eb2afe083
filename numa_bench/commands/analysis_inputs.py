"""From settings to an Analysis: load one selection of studies, or the sides of a comparison."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from numa_bench.analysis.profiles.flat_table import profile_table
from numa_bench.analysis.read.nvbandwidth import read_nvbandwidth
from numa_bench.analysis.read.runs import Filters, Loaded, load_studies
from numa_bench.analysis.read.studies import expand_paths, find_results
from numa_bench.analysis.settings import Settings
from numa_bench.analysis.stats.compare.nvbandwidth import compare_nvbandwidth
from numa_bench.analysis.stats.compare.studies import Comparison, compare_studies
from numa_bench.analysis.stats.pooled.partitions import (
    Fleet,
    group_by_host,
    join_partitions,
    load_partitions,
)
from numa_bench.analysis.study_analysis import Analysis, analyse_study
from numa_bench.errors import ConfigError, NumaBenchError, StoreError
from numa_bench.profiling.nsys import export_report
from numa_bench.versions import package_versions

PACKAGES = ("numpy", "pandas", "scipy", "matplotlib")


class RegressionFound(NumaBenchError):  # noqa: N818 - an outcome, not a mistake
    """Throughput fell by more than was allowed. The page is written."""

    exit_code = 1


def load_analysis(wanted: Settings, *, created: str, command: str) -> Analysis:
    """Load and compute. Raises StoreError or ConfigError when there is nothing to analyse."""
    config = wanted.config
    comparison: Comparison | None = None
    if wanted.compare:
        before, after = load_sides(wanted.compare, config.root, wanted.filters)
        limit = config.fail_on_regression
        comparison = compare_studies(
            before.frame,
            after.frame,
            fail_on_regression=None if limit is None else limit / 100,
            seed=config.seed,
        )
        loaded, name = after, f"{wanted.compare[-1]} against {', '.join(wanted.compare[:-1])}"
    else:
        name = "selection" if wanted.results else config.experiment_name
        loaded = load_studies(wanted.results or config.root, config.experiment_name, wanted.filters)
        _check_not_empty(loaded)
    return analyse_study(
        name,
        loaded,
        nvbandwidth=_compare_nvbandwidth(loaded, config.nvbandwidth),
        profiles=profile_table(loaded.frame, config.profiles, export_report),
        target=config.target_percent / 100,
        seed=config.seed,
        created=created,
        command=command,
        comparison=comparison,
        versions={"python": platform.python_version(), **package_versions(PACKAGES)},
    )


def load_fleet(wanted: Settings) -> Fleet:
    """Load and analyse one host after the other. Raises StoreError when there is no run."""
    config = wanted.config
    target = config.target_percent / 100
    found = (
        expand_paths(wanted.results)
        if wanted.results
        else find_results(config.root, config.experiment_name)
    )
    fleet = join_partitions(load_partitions(group_by_host(found), target, wanted.filters), target)
    if not fleet.runs:
        reasons = "; ".join(f"{p.path}: {p.reason}" for p in fleet.problems[:3])
        raise StoreError(f"no run to analyse: {reasons or 'none matches, or there is none'}")
    return fleet


def _compare_nvbandwidth(loaded: Loaded, path: str | None) -> pd.DataFrame:
    """The runs beside a file of nvbandwidth; empty without one. Raises ConfigError."""
    if path is None:
        return pd.DataFrame()
    table = compare_nvbandwidth(loaded.frame, read_nvbandwidth(path))
    if table.empty:
        raise ConfigError(
            "nvbandwidth", path, "no local copies of the same GPUs here; name a bandwidth study"
        )
    return table


def load_sides(compare: Sequence[str], root: str, filters: Filters) -> tuple[Loaded, Loaded]:
    """The studies before, and those after, which the last entry names. Raises ConfigError."""
    named = {entry: _find_named(entry, root) for entry in compare}
    after = [path.resolve() for path in named[compare[-1]]]
    for entry in compare[:-1]:
        if entry != compare[-1] and any(path.resolve() in after for path in named[entry]):
            raise ConfigError(
                "compare", entry, f"has a study that {compare[-1]} has too; name each on one side"
            )
    sides = []
    for entries in (compare[:-1], compare[-1:]):
        loaded = load_studies([path for e in entries for path in named[e]], "all", filters)
        runs = loaded.frame
        kept = {Path(d).resolve() for d in ([] if runs.empty else runs["study_dir"].unique())}
        for entry in entries:
            if not kept & {path.resolve().parent for path in named[entry]}:
                reasons = "; ".join(p.reason for p in loaded.problems[:3])
                text = f"no run is left after filtering{reasons and ': '}{reasons}"
                raise ConfigError("compare", entry, text)
        sides.append(loaded)
    return sides[0], sides[1]


def _find_named(entry: str, root: str) -> list[Path]:
    """The results.json of one entry: a path or a pattern of paths where it is one, else a name."""
    try:
        if Path(entry).exists():
            return expand_paths([entry])
        if paths := _expand_pattern(entry):
            return expand_paths(paths)
        return find_results(root, entry)
    except StoreError as error:
        reason = str(error)
        for key in ("experiment_name", "results"):  # which nobody typed
            reason = reason.removeprefix(f"{key}={entry}: ")
        raise ConfigError("compare", entry, reason) from error


def _expand_pattern(entry: str) -> list[Path]:
    """The paths that a pattern such as outputs/numa_study/2026-* matches, sorted."""
    if not set(entry) & set("*?["):
        return []
    path = Path(entry)
    return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))


def _check_not_empty(loaded: Loaded) -> None:
    if not loaded.frame.empty:
        return
    runs = sum(study.recorded for study in loaded.studies)
    if runs:
        raise StoreError(
            f"none of {runs} runs matches: loosen date_from, date_to, hosts, gpus, models"
        )
    reasons = "; ".join(f"{p.path}: {p.reason}" for p in loaded.problems[:3])
    raise StoreError(f"no run to analyse: {reasons or 'the studies are empty'}")
