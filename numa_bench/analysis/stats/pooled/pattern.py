"""What all comparisons of a group have in common: a lean to one side, and unequal noise. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.stats import binomtest

from numa_bench.analysis.stats.pooled.table import BOUND

#: Probability of a lean by chance below which it is worth a line. A convention.
_RARE = 0.001
#: Noise of a placement over that of local from which it is worth a line. Chosen: repeats needed go
#: with its square.
_NOISY = 1.5


def describe_pattern(pooled: pd.DataFrame, changes: Sequence[float | None]) -> list[str]:
    """Lines on the lean of all single comparisons and on placements with other noise than local.

    `changes` are those of the single comparisons, as fractions.
    """
    return [*_describe_lean([c for c in changes if c]), *_describe_noise(pooled)]


def _describe_lean(changes: Sequence[float]) -> list[str]:
    """Comparisons of one base share its error, so that this is a hint and no test."""
    slower = sum(c < 0 for c in changes)
    if slower not in (0, len(changes)) or not changes:
        return []
    # Few comparisons agree by chance.
    if binomtest(slower, len(changes)).pvalue > _RARE:
        return []
    word = "slower" if slower else "faster"
    return [f"all {len(changes)} single comparisons lean the same way: {word} than local"]


def _describe_noise(pooled: pd.DataFrame) -> list[str]:
    if pooled.empty:
        return []
    rows = pooled[pooled["level"] == BOUND].drop_duplicates("placement")
    return [
        f"runs with placement {row['placement']} are {_compare(row['noise_ratio'])} as noisy as "
        "local ones"
        for row in rows.to_dict("records")
        if not 1 / _NOISY < row["noise_ratio"] < _NOISY
    ]


def _compare(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio > 1 else f"{100 * ratio:.0f} %"
