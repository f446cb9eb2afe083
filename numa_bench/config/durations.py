"""Durations as users write them: 1h, 90m, 1h30m, 45s, or a number of seconds."""

from __future__ import annotations

import math
import re
from typing import Any

from numa_bench.errors import ConfigError

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")
_UNITS_S = (3600, 60, 1)


def parse_duration(key: str, value: Any) -> float | None:
    """Seconds of a duration such as 1h, 30m, 1h30m, 90s or 90; None stays None.

    Raises ConfigError for what is no duration, or not greater than 0.
    """
    if value is None:
        return None
    seconds = _read_seconds(value)
    if seconds is None or not (0 < seconds < math.inf):
        raise ConfigError(
            key, value, "expected a duration above 0, such as 1h, 30m, 1h30m, 90s or 90, or null"
        )
    return seconds


def _read_seconds(value: Any) -> float | None:
    """None for what cannot be read."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if not isinstance(value, str):
        return float(value)
    match = _DURATION.fullmatch(value.strip().lower())
    if match is None or not any(match.groups()):
        return None
    return sum(
        float(number) * unit
        for number, unit in zip(match.groups(), _UNITS_S, strict=True)
        if number is not None
    )
