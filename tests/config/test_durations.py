"""Durations as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from numa_bench.config.durations import parse_duration
from numa_bench.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("1h", 3600),
        ("30m", 1800),
        ("90s", 90),
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1H 30M".replace(" ", ""), 5400),
        ("2m5s", 125),
        ("1h5", 3605),
    ],
)
def test_durations_are_read(text: Any, seconds: float | None) -> None:
    assert parse_duration("time_limit", text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "h", "soon", "-1h", "1d", "30m1h", "1 h", 0, "0", "0s", -5, True, [1], float("inf")],
)
def test_what_is_no_duration_is_refused_with_examples(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"^time_limit=.*: expected a duration above 0, such as"):
        parse_duration("time_limit", text)
