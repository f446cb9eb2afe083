"""Figures of simulated studies: false claims, effects found, coverage, power.

Each `measure_*` judges one study and returns figures by name, NaN where one does not apply.
`summarise` averages them over studies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.pooled.table import BOUND, MODEL
from numa_bench.analysis.stats.robust import Array
from numa_bench.analysis.stats.tables import TARGET
from tests.fake_families import Design, judge_pooled, judge_singles, simulate, vary_noise

#: Repeats at which a study that is extended is looked at.
LOOKS = (5, 10, 15, 20)
#: Most repeats that are simulated where a verdict asks for them.
_MOST_REPEATS = 60


def _is_wrong(
    claimed: NDArray[np.bool_], low: Array, high: Array, truth: Array
) -> NDArray[np.bool_]:
    """Claims of an effect where there is none, or of the opposite direction."""
    return claimed & ((truth == 0) | ((low > 0) & (truth < 0)) | ((high < 0) & (truth > 0)))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else np.nan


def measure_singles(design: Design, seed: int) -> dict[str, float]:
    """Single comparisons of one study: any false claim, share found, coverage of intervals, and
    whether the interval of the largest claim holds the truth."""
    values = simulate(design, np.random.default_rng(seed))
    judged = judge_singles(values, seed)
    truth = design.truth.reshape(-1, design.placements)
    tested = np.isfinite(judged.difference)
    low, high, claimed = judged.low[tested], judged.high[tested], judged.claimed[tested]
    true = truth[tested]
    held = (low <= true) & (true <= high)
    size = np.where(claimed, np.abs(judged.difference[tested]), -1.0)
    return {
        "false": float(_is_wrong(claimed, low, high, true).any()),
        "found": _mean(claimed[true != 0]),
        "coverage": _mean(held),
        "coverage_of_largest": float(held[size.argmax()]) if claimed.any() else np.nan,
        "size_of_largest": float(size.max()) if claimed.any() else np.nan,
    }


def measure_pooled(design: Design, seed: int) -> dict[str, float]:
    """Pooled contrasts of one study: false claims at the levels shown first, on single units, and
    anywhere; the share of models found; coverage, also of claimed effects; false "equal"."""
    judged = judge_pooled(simulate(design, np.random.default_rng(seed)))
    truth = judged.average(design.truth)
    wrong = _is_wrong(judged.claimed, judged.low, judged.high, truth)
    # Rows of the mean over models of which some have an effect are no test of finding it.
    models = MODEL if (judged.level == MODEL).any() else BOUND
    held = (judged.low <= truth) & (truth <= judged.high)
    units = ~judged.shown
    limit = -np.log1p(-TARGET) * (1 - 1e-9)
    return {
        "false": float(wrong[judged.shown].any()),
        "false_of_units": float(wrong[units].any()) if units.any() else np.nan,
        "false_anywhere": float(wrong.any()),
        "found": _mean(judged.claimed[(judged.level == models) & (truth != 0)]),
        "coverage": _mean(held[judged.shown]),
        "coverage_of_claimed": _mean(held[judged.claimed & judged.shown]),
        "equal": _mean(judged.equal[judged.shown]),
        "false_equal": _mean(judged.equal[judged.shown & (np.abs(truth) >= limit)]),
    }


def measure_detectable_single(design: Design, seed: int) -> dict[str, float]:
    """Whether a second study finds one effect of exactly the size that the first calls detectable.

    `power_after_no_difference`: where the first says "no difference", which it does if it claims
    nothing there and could detect `TARGET`. `repeats_enough`: whether an effect of `TARGET` is
    found with the repeats that the first asks for.
    """
    rng = np.random.default_rng(seed)
    design = vary_noise(design, rng)
    first = judge_singles(simulate(design, rng), seed)
    at = rng.integers(design.models * design.gpus), rng.integers(1, design.placements)
    size, repeats = first.detectable[at], first.repeats[at]

    def is_found(design: Design, size: float) -> float:
        extra = np.zeros((design.models * design.gpus, design.placements))
        extra[at] = -size
        values = simulate(design, rng, extra.reshape(design.truth.shape))
        return float(judge_singles(values, seed + 1).claimed[at])

    return _follow(design, bool(first.claimed[at]), float(size), float(repeats), is_found)


def measure_detectable_pooled(design: Design, seed: int) -> dict[str, float]:
    """The same for one of the pooled contrasts that are shown first, chosen by chance."""
    rng = np.random.default_rng(seed)
    design = vary_noise(design, rng)
    first = judge_pooled(simulate(design, rng))
    at = int(rng.choice(np.flatnonzero(first.shown)))
    chosen = first.selections[at]

    def is_found(design: Design, size: float) -> float:
        extra = np.zeros(design.truth.shape)
        extra[list(chosen.models), :, chosen.place + 1] = -size
        return float(judge_pooled(simulate(design, rng, extra)).claimed[at])

    size, repeats = float(first.detectable[at]), float(first.repeats[at])
    return _follow(design, bool(first.claimed[at]), size, repeats, is_found)


def _follow(
    design: Design,
    claimed: bool,
    size: float,
    repeats: float,
    is_found: Callable[[Design, float], float],
) -> dict[str, float]:
    limit = -float(np.log1p(-TARGET))
    power = is_found(design, size) if np.isfinite(size) else np.nan
    silent = not claimed and size <= limit
    # Asked for where the target could have been missed; NaN compares as False.
    asked = not claimed and not size <= limit and design.repeats < repeats <= _MOST_REPEATS
    again = replace(design, repeats=int(repeats)) if asked else design
    return {
        "power": power,
        "power_after_no_difference": power if silent else np.nan,
        "no_difference": float(silent),
        "repeats_enough": is_found(again, limit) if asked else np.nan,
        "repeats": repeats if asked else np.nan,
    }


def measure_looks(design: Design, seed: int) -> dict[str, float]:
    """Any false claim at the last of `LOOKS`, and at any of them, without an effect."""
    values = simulate(replace(design, repeats=LOOKS[-1]), np.random.default_rng(seed))
    singles = [bool(judge_singles(values[..., :n], seed + n).claimed.any()) for n in LOOKS]
    pooled = [judge_pooled(values[..., :n]) for n in LOOKS]
    shown = [bool(p.claimed[p.shown].any()) for p in pooled]
    return {
        "single_last": float(singles[-1]),
        "single_any": float(any(singles)),
        "pooled_last": float(shown[-1]),
        "pooled_any": float(any(shown)),
    }


@dataclass(frozen=True)
class Rate:
    """A mean over `studies` studies to which the figure applies, and its standard error."""

    value: float
    error: float
    studies: int


def summarise(figures: Sequence[dict[str, float]]) -> dict[str, Rate]:
    """The mean of each figure over studies; figures that never apply are left out."""
    rates = {}
    for name in figures[0]:
        values = np.array([row[name] for row in figures])
        values = values[np.isfinite(values)]
        if values.size:
            error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else np.nan
            rates[name] = Rate(float(values.mean()), error, int(values.size))
    return rates
