"""Checks of single values, used for every kind of setting. Each raises ConfigError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from numa_bench.errors import ConfigError

#: Folders of output.root that are no study's.
RESERVED_NAMES = ("analysis", "debug", "dry_run", "mixed", "multirun")
#: The device decides.
AUTO = "auto"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_at_least(key: str, value: float, least: float) -> None:
    """Raise ConfigError if `value` is below `least` or NaN."""
    if not value >= least:
        raise ConfigError(key, value, f"must be at least {least}")


def check_seconds(key: str, value: float) -> None:
    """Raise ConfigError unless `value` is finite and not negative; JSON has no infinity."""
    check_at_least(key, value, 0)
    if math.isinf(value):
        raise ConfigError(key, value, "must be finite; use a large number of seconds")


def check_one_of(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise ConfigError if `value` is not among `choices`."""
    if value not in choices:
        raise ConfigError(key, value, f"unknown; use one of {', '.join(choices)}")


def check_name(key: str, name: str) -> None:
    """Raise ConfigError unless a name is safe as the name of a directory."""
    if not _NAME.fullmatch(name) or len(name) > 80:
        raise ConfigError(
            key,
            name,
            "use letters, digits, '.', '_' and '-', at most 80, starting with a letter or digit",
        )


def check_study_name(name: str) -> None:
    """Raise ConfigError unless a study can have this name, which is also that of its folder."""
    check_name("experiment.name", name)
    if name in RESERVED_NAMES:
        raise ConfigError(
            "experiment.name", name, "is a folder for other results; choose another name"
        )


def check_count_or_auto(key: str, value: Any, example: int) -> None:
    """Raise ConfigError unless `value` is a positive whole number or the word auto."""
    if value == AUTO:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(key, value, f"expected int or auto, for example {example}")
    check_at_least(key, value, 1)
