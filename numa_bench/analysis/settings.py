"""Settings of analysis/analyze.py: types, defaults, documentation, and checks beyond types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from numa_bench.analysis.read.runs import Filters
from numa_bench.config.settings import documented_field, format_help, to_typed_config
from numa_bench.errors import ConfigError

#: Formats of what is printed.
TEXT, MARKDOWN = "text", "markdown"


@dataclass(kw_only=True, slots=True)
class AnalysisConfig:
    """What to analyse, and how."""

    experiment_name: str = documented_field("numa_study", "Name of the study; all: every study.")
    root: str = documented_field(
        "outputs", "Output root of the runner, below which studies are looked for."
    )
    results: Any = documented_field(
        None, "Study directories or results.json files to analyse instead, as a list."
    )
    compare: Any = documented_field(
        None,
        "Studies before and after, the last is after: [before1,before2,after]. Directories, "
        "results.json files, patterns such as outputs/numa_study/2026-01-3*, or names. Two or more "
        "before, of different days, show how much days differ.",
    )
    fail_on_regression: Optional[float] = documented_field(
        None,
        "With compare: exit with 1 when the throughput of a cell, or of all together, fell "
        "significantly by more than this many percent.",
    )
    nvbandwidth: Optional[str] = documented_field(
        None,
        "JSON file of `nvbandwidth -j`, shown beside the local copies of a bandwidth study.",
    )
    date_from: Optional[str] = documented_field(
        None, "First day of runs to take, as 2026-01-31 (UTC)."
    )
    date_to: Optional[str] = documented_field(None, "Last day of runs to take.")
    hosts: Any = documented_field(None, "Only runs of these hosts.")
    gpus: Any = documented_field(None, "Only runs on these GPUs: numbers, names or UUIDs, or cpu.")
    models: Any = documented_field(None, "Only runs of these models, by name (vit_name).")
    target_percent: float = documented_field(
        2.0, "Smallest effect of interest in percent; the repeats needed are computed for it."
    )
    seed: int = documented_field(0, "Seed of bootstrap and permutations.")
    format: str = documented_field(
        TEXT,
        "What is printed. text: verdict and tables; markdown: only a block of at most 40 lines for "
        "a pull request, which is always written as report.md too.",
    )
    track: bool = documented_field(
        True, "Log page and plots to the trackers of the study (one study or sweep only)."
    )
    profiles: int = documented_field(
        200, "Most profiler reports to read, spread evenly over all; 0 reads none."
    )


@dataclass(frozen=True)
class Settings:
    """The settings, checked, with lists as tuples.

    `compare` is empty, or has the studies before and, last, the one after.
    """

    config: AnalysisConfig
    filters: Filters
    results: tuple[str, ...]
    compare: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the analysis's directory."""
        return directory_name(self.config.experiment_name, self.config.results, self.config.compare)


def register_settings() -> None:
    """Put the schema and the resolvers where conf/analyze.yaml finds them. Safe to call twice."""
    ConfigStore.instance().store(name="analysis_schema", node=AnalysisConfig)
    OmegaConf.register_new_resolver(
        "analysis_help", lambda: format_help(AnalysisConfig), replace=True
    )
    OmegaConf.register_new_resolver("analysis_name", directory_name, replace=True)
    OmegaConf.register_new_resolver("analysis_root", check_root, replace=True)


def check_root(root: Any) -> str:
    """The output root. Raises ConfigError where it is empty: that would be the file system's."""
    if root is None or not str(root).strip():
        raise ConfigError("root", "''", "must not be empty; set a directory")
    return str(root)


def directory_name(experiment_name: str, results: Any, compare: Any) -> str:
    """The directory of an analysis below <root>/analysis. Raises ConfigError."""
    if compare:
        return "compare"
    if results:
        return "selection"
    if not experiment_name or "/" in experiment_name or experiment_name.startswith("."):
        raise ConfigError(
            "experiment_name",
            experiment_name,
            "is not the name of a study; for paths use results=[...]",
        )
    return experiment_name


def check_settings(node: DictConfig, overrides: Sequence[str]) -> Settings:
    """The settings of a composed configuration. Raises ConfigError or UnknownKeyError."""
    config = to_typed_config(node, overrides)
    assert isinstance(config, AnalysisConfig)
    compare = _texts("compare", config.compare)
    if len(compare) == 1:
        raise ConfigError(
            "compare", config.compare, "name two studies or more: compare=[before1,before2,after]"
        )
    if compare and config.results:
        raise ConfigError(
            "results", config.results, "cannot be combined with compare; drop one of them"
        )
    limit = config.fail_on_regression
    if limit is not None and not compare:
        raise ConfigError(
            "fail_on_regression", limit, "needs studies to compare: compare=[before,after]"
        )
    if limit is not None and not 0 <= limit < 100:
        raise ConfigError("fail_on_regression", limit, "is a percentage from 0 to below 100")
    if not 0 < config.target_percent < 100:
        raise ConfigError("target_percent", config.target_percent, "must be above 0 and below 100")
    if config.format not in (TEXT, MARKDOWN):
        raise ConfigError("format", config.format, f"must be {TEXT} or {MARKDOWN}")
    for key in ("profiles", "seed"):
        if getattr(config, key) < 0:
            raise ConfigError(key, getattr(config, key), "must be at least 0")
    filters = Filters(
        date_from=config.date_from,
        date_to=config.date_to,
        hosts=_texts("hosts", config.hosts),
        gpus=_texts("gpus", config.gpus),
        models=_texts("models", config.models),
    )
    return Settings(config, filters, _texts("results", config.results), compare)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """One value or a list as texts; null is none."""
    if value is None:
        return ()
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(item is None or isinstance(item, (dict, list, bool)) for item in items):
        raise ConfigError(key, value, "give one value, or a list such as [a,b]")
    return tuple(
        str(Path(str(item))) if key in ("results", "compare") else str(item) for item in items
    )
