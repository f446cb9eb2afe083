"""From settings to an Analysis: load one selection of studies, or the two of a comparison."""

from __future__ import annotations

import platform
from pathlib import Path

import pandas as pd

from numa_bench.analysis.profiles.flat_table import profile_table
from numa_bench.analysis.read.nvbandwidth import read_nvbandwidth
from numa_bench.analysis.read.runs import Filters, Loaded, load_studies
from numa_bench.analysis.settings import Settings
from numa_bench.analysis.stats.compare import Comparison, compare_studies
from numa_bench.analysis.stats.nvbandwidth import compare_nvbandwidth
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
        before, after = (_one_of_two(side, config.root, wanted.filters) for side in wanted.compare)
        limit = config.fail_on_regression
        comparison = compare_studies(
            before.frame,
            after.frame,
            fail_on_regression=None if limit is None else limit / 100,
            seed=config.seed,
        )
        loaded, name = after, " against ".join(reversed(wanted.compare))
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


def _one_of_two(side: str, root: str, filters: Filters) -> Loaded:
    """One side of a comparison: a path where there is one, else a study's name."""
    path = Path(side)
    try:
        loaded = (
            load_studies([path], "all", filters)
            if path.exists()
            else load_studies(root, side, filters)
        )
    except StoreError as error:
        raise ConfigError("compare", side, str(error)) from error
    if loaded.frame.empty:
        raise ConfigError("compare", side, "no run is left after filtering")
    return loaded


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
