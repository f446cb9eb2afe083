"""Simulated studies whose truth is known, and how the statistics judge them.

Counted by tests/honesty_figures.py and benchmarks/honesty.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from numa_bench.analysis.stats.contrasts import Contrasts, compare_cells
from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.pooled.estimate import Grid, Pooled, Selection, pool_differences
from numa_bench.analysis.stats.pooled.grid import Cells, make_grid
from numa_bench.analysis.stats.pooled.table import BOUND, MODEL, UNIT
from numa_bench.analysis.stats.robust import Array
from numa_bench.analysis.stats.tables import TARGET
from tests.fake_noise import MODELS, NoiseModel

#: Share of the draws of a real study that a simulated one gets.
EFFORT = 0.03


@dataclass(frozen=True)
class Design:
    """What one study compares, and the truth.

    Placement 0 is local. `effect` is -0.03 where throughput is 3 % lower: in all models, or the
    first `affected` ones, and in all other placements, or with `last_only` in the last one.
    `varied`: see `vary_noise`.
    """

    models: int = 6
    gpus: int = 1
    placements: int = 2
    repeats: int = 5
    noise: NoiseModel = MODELS["real"]
    effect: float = 0.0
    affected: int | None = None
    last_only: bool = False
    varied: bool = False

    @property
    def truth(self) -> Array:
        """Logarithms of ratios to local, shape (models, gpus, placements)."""
        truth = np.zeros((self.models, self.gpus, self.placements))
        truth[: self.affected, :, -1 if self.last_only else 1 :] = np.log1p(self.effect)
        return truth


def vary_noise(design: Design, rng: np.random.Generator) -> Design:
    """A `varied` design with a standard deviation of runs from 0.3 to 2 %, log-uniformly drawn."""
    if not design.varied:
        return design
    sd = float(np.exp(rng.uniform(np.log(0.003), np.log(0.02))))
    return replace(design, noise=replace(design.noise, sd=sd))


def simulate(design: Design, rng: np.random.Generator, extra: Array | float = 0.0) -> Array:
    """Logarithms of throughput, shape (models, gpus, placements, repeats).

    `extra` is added to the truth.
    """
    shape = (design.models, design.gpus, design.placements, design.repeats)
    return np.asarray(design.noise.draw(shape, rng) + (design.truth + extra)[..., None])


def judge_singles(values: Array, seed: int = 0, effort: float = EFFORT) -> Contrasts:
    """Each placement against local, by model and GPU: shape (models x gpus, placements)."""
    cells = values.reshape(-1, *values.shape[2:])
    flat, spent = remove_drift(cells.reshape(-1, cells.shape[-1]))
    return compare_cells(flat.reshape(cells.shape), spent, TARGET, seed, effort)


@dataclass(frozen=True)
class PooledJudgement:
    """Pooled contrasts of one study, one value each: rows of all three levels."""

    level: NDArray[np.str_]
    selections: list[Selection]
    low: Array
    high: Array
    claimed: NDArray[np.bool_]
    detectable: Array
    repeats: Array

    @property
    def shown(self) -> NDArray[np.bool_]:
        """The rows that are corrected together and lead the report."""
        return self.level != UNIT

    @property
    def equal(self) -> NDArray[np.bool_]:
        """Where the interval is within +-`TARGET`."""
        limit = -np.log1p(-TARGET)
        return (self.low > -limit) & (self.high < limit)

    def average(self, truth: Array) -> Array:
        """The truth of each contrast, from logarithms of shape (models, gpus, placements)."""
        means = [truth[np.ix_(s.models, s.units)][..., s.place + 1].mean() for s in self.selections]
        return np.array(means, dtype=np.float64)


def judge_pooled(values: Array) -> PooledJudgement:
    """As `pooled.table` does; the first half of the models is limited by one thing, the rest by
    another, and a single model is a group by itself."""
    models, gpus, placements, repeats = values.shape
    flat, spent = remove_drift(values.reshape(-1, repeats))
    grid = make_grid(
        Cells(
            values=flat.reshape(-1, placements, repeats),
            model=np.repeat(np.arange(models), gpus),
            unit=np.tile(np.arange(gpus), models),
            place=np.tile(np.arange(placements) - 1, (models * gpus, 1)),
            spent=spent,
        )
    )
    level: list[str] = []
    selections: list[Selection] = []
    parts = []
    for listed in (_list_shown(models, gpus, placements), _list_units(models, gpus, placements)):
        # Too many runs may be missing.
        chosen = [(name, s) for name, s in listed if _is_known(grid, s)]
        if chosen:
            level += [name for name, _ in chosen]
            selections += [selection for _, selection in chosen]
            parts.append(pool_differences(grid, [s for _, s in chosen], TARGET))

    def join(value: Callable[[Pooled], Array]) -> Array:
        return np.concatenate([np.empty(0), *(value(part) for part in parts)])

    low, high = join(lambda part: part.low), join(lambda part: part.high)
    claimed = join(lambda part: part.claimed.astype(np.float64)).astype(bool) & (
        (low > 0) | (high < 0)
    )
    return PooledJudgement(
        level=np.array(level, dtype=str),
        selections=selections,
        low=low,
        high=high,
        claimed=claimed,
        detectable=join(lambda part: part.detectable),
        repeats=join(lambda part: part.repeats),
    )


def _is_known(grid: Grid, selection: Selection) -> bool:
    part = grid.difference[np.ix_(selection.models, selection.units)][..., selection.place]
    return bool(np.isfinite(part).any())


def _group_models(models: int) -> list[tuple[int, ...]]:
    half = models // 2
    return [g for g in (tuple(range(half)), tuple(range(half, models))) if g]


def _list_shown(models: int, gpus: int, placements: int) -> list[tuple[str, Selection]]:
    units, places = tuple(range(gpus)), range(placements - 1)
    groups = _group_models(models)
    shown = [(BOUND, Selection(group, units, place)) for place in places for group in groups]
    return shown + [
        (MODEL, Selection((model,), units, place))
        for place in places
        for group in groups
        if len(group) > 1
        for model in group
    ]


def _list_units(models: int, gpus: int, placements: int) -> list[tuple[str, Selection]]:
    return [
        (UNIT, Selection(group, (unit,), place))
        for place in range(placements - 1)
        for group in _group_models(models)
        for unit in range(gpus if gpus > 1 else 0)
    ]
