"""The jobs of a study: one, or all jobs of a sweep that are measured in one order (interleave)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError

KEY = "interleave"
#: Of the experiment, what the cells of a job are made of. All other settings are those of a study.
_OF_CELLS = ("vit_configs", "test", "bandwidth", "hardware", "contention", "max_gpus")


@dataclass(frozen=True)
class StudyJob:
    """The settings of one job of a study.

    `overrides` are those in which the job differs from others of an interleaved sweep, empty for
    the only job of a study. `touched` are the entries of vit_configs that its overrides change.
    """

    config: RunnerConfig
    touched: frozenset[int] = field(default_factory=frozenset)
    overrides: tuple[str, ...] = ()


def check_interleaved(configs: Sequence[RunnerConfig]) -> bool:
    """Whether the jobs with these settings become one study. Raises ConfigError if they cannot."""
    wanted = [config.interleave for config in configs]
    if not any(wanted):
        return False
    if len(configs) == 1:
        refuse_single(configs[0])
    if not all(wanted):
        raise ConfigError(KEY, "true,false", "all jobs of a sweep are interleaved, or none")
    if any(config.resume_from for config in configs):
        raise ConfigError(
            KEY, True, "these jobs were started as studies of their own; start a new sweep"
        )
    _check_common_settings(configs)
    return True


def refuse_single(config: RunnerConfig) -> None:
    """Raise ConfigError if a study of one job is to be interleaved."""
    if not config.interleave:
        return
    if config.resume_from:
        fix = "a resumed study keeps its order; remove this, or start a new sweep"
    else:
        fix = (
            "there is only one job, whose runs are interleaved in any case; give a setting several "
            "values with -m, or remove this"
        )
    raise ConfigError(KEY, True, fix)


def _check_common_settings(configs: Sequence[RunnerConfig]) -> None:
    """Raise ConfigError for a setting of the whole study that is not the same in all jobs."""
    found = [dict(_list_common(asdict(config))) for config in configs]
    for key in dict.fromkeys(key for values in found for key in values):
        values = [str(one.get(key)) for one in found]
        if len(set(values)) == 1:
            continue
        fix = "interleave=true measures all jobs in one study, which has one value of this"
        if key == "experiment.name":
            fix += "; add experiment.name=NAME"
        raise ConfigError(key, ",".join(dict.fromkeys(values)), fix)


def _list_common(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full key and value of every setting that cells do not depend on."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if prefix == "experiment." and name in _OF_CELLS:
            continue
        if isinstance(value, dict):
            yield from _list_common(value, f"{key}.")
        else:
            yield key, value
