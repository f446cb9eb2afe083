"""Pure: effects that a disturbance explains as well as placement does, and that are not claimed.

Interleaving spreads disturbances over placements on average, but a few runs can meet them unevenly.
A disturbance is read as what it leaves of a resource, so that its size compares with an effect's
whatever the number of runs. docs/statistics.md explains the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numa_bench.analysis.stats.robust import Array
from numa_bench.marks import warning_code

#: Share of an effect, on logarithms, that a disturbance must explain to hold it back. Chosen: below
#: it the larger part is not the disturbance's, also where threads that wait for each other lose
#: up to twice the share of CPU time that was taken.
SHARE = 0.5
#: No CPU time left is no number on logarithms.
_LEAST_LEFT = 0.01


@dataclass(frozen=True)
class Disturbance:
    """One disturbance: the code of its mark, and the sensor whose median over a run sizes it.

    `find_left` gives what it leaves of a resource, on any scale, from readings. `text` has the
    readings of the more and of the less disturbed placement, times `scale`, as `more` and `less`.
    """

    code: str
    sensor: str
    find_left: Callable[[Array], Array]
    text: str
    advice: str
    scale: float = 1.0

    @property
    def column(self) -> str:
        return f"monitor_{self.sensor}_median"


def _find_cpu_left(share: Array) -> Array:
    return np.maximum(1 - share, _LEAST_LEFT)


DISTURBANCES = (
    Disturbance(
        "foreign_cpu",
        "cpu_foreign",
        _find_cpu_left,
        "{slow} ran beside {more:.0f} % foreign CPU, {fast} beside {less:.0f} %",
        "repeat the study on a quieter machine",
        100,
    ),
    Disturbance(
        "steal",
        "cpu_steal",
        _find_cpu_left,
        "the hypervisor took {more:.0f} % of the CPU time of {slow}, {less:.0f} % of {fast}'s",
        "repeat the study on a dedicated host",
        100,
    ),
    Disturbance(
        "foreign_gpu",
        "foreign_processes",
        lambda others: 1 / (1 + others),  # processes take turns on a GPU
        "{slow} ran beside {more:.1f} other processes on the GPU, {fast} beside {less:.1f}",
        "repeat the study alone on the GPU",
    ),
    Disturbance(
        "throttled",
        "sm_mhz",
        lambda clock: np.maximum(clock, 1.0),
        "the GPU ran at {more:.0f} MHz with {slow}, at {less:.0f} MHz with {fast}",
        "repeat the study after checking cooling and power limits",
    ),
)


@dataclass(frozen=True)
class Pairs:
    """What each disturbance makes of comparisons of cells with their bases.

    Shape (disturbances, pairs): `change`, the logarithm of what is left in the cell over what is
    left in the base, 0 where neither has the mark or a reading; `reading` and `base_reading`.
    """

    change: Array
    reading: Array
    base_reading: Array


def measure_pairs(runs: pd.DataFrame, cells: list[str], bases: list[str]) -> Pairs:
    """What disturbances make of comparisons, from the runs that are in the statistics."""
    shape = (len(DISTURBANCES), len(cells))
    change = np.zeros(shape)
    reading, base_reading = np.full(shape, np.nan), np.full(shape, np.nan)
    codes = runs["warnings"].map(lambda texts: frozenset(map(warning_code, texts)))
    for i, kind in enumerate(DISTURBANCES):
        marked = codes.map(lambda of, code=kind.code: code in of).astype(bool)
        if not marked.any() or kind.column not in runs:
            continue
        values = pd.to_numeric(runs[kind.column], errors="coerce").astype(float)
        mean = values.groupby(runs["cell"]).mean()
        some = marked.groupby(runs["cell"]).any()
        reading[i], base_reading[i] = mean.reindex(cells), mean.reindex(bases)
        either = some.reindex(cells, fill_value=False).to_numpy()
        either = either | some.reindex(bases, fill_value=False).to_numpy()
        left, base_left = kind.find_left(reading[i]), kind.find_left(base_reading[i])
        known = either & np.isfinite(left) & np.isfinite(base_left)
        change[i, known] = np.log(left[known] / base_left[known])
    return Pairs(change, reading, base_reading)


def explain_effect(
    pairs: Pairs,
    chosen: NDArray[np.intp],
    ratio: float,
    names: tuple[str, str],
    *,
    lower: bool = False,
    what: str = "placement",
) -> str:
    """Why an effect cannot be attributed to placement, as one sentence; "" where it can.

    `chosen` are the pairs whose mean difference the effect is, `ratio` is cell over base, and
    `names` are of the placements of cells and of bases. `lower`: a larger ratio is worse, as of a
    latency; `what` is what was to be compared. Only a disturbance of the slower side explains an
    effect: one of the faster side hides a part of it.
    """
    effect = -np.log(ratio) if lower else np.log(ratio)
    change = pairs.change[:, chosen]
    if not change.any() or not effect:
        return ""
    explained = change.mean(axis=1) / effect
    if explained.max() < SHARE:
        return ""
    worst = int(explained.argmax())
    kind = DISTURBANCES[worst]
    own, base = (
        kind.scale * np.nanmean(r[worst, chosen]) for r in (pairs.reading, pairs.base_reading)
    )
    slow, fast, more, less = (
        (names[0], names[1], own, base) if effect < 0 else (names[1], names[0], base, own)
    )
    cause = kind.text.format(slow=slow, fast=fast, more=more, less=less)
    size = f"{100 * abs(ratio - 1):.1f}"
    return f"{cause}: the difference of {size} % cannot be attributed to {what}; {kind.advice}"


def is_seen(row: Mapping[Any, Any]) -> bool:
    """Whether the runs show an effect, be it claimed or not significant among many."""
    return bool(row["low"] > 1 or row["high"] < 1)


def withhold_claims(table: pd.DataFrame) -> pd.DataFrame:
    """A table of effects without the claims that are `held_back`.

    Of such a comparison nothing is known: neither that it is equal nor what would have shown, and
    more repeats beside the same disturbance do not help.
    """
    held = table["held_back"] != ""
    if not held.any():
        return table
    unknown = {"claimed": False, "equal": False, "detectable": np.nan, "repeats_needed": np.nan}
    return table.assign(**{k: table[k].mask(held, v) for k, v in unknown.items() if k in table})
