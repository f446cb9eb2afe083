"""Simulated families of comparisons whose truth is known, to see how they are judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from numa_bench.analysis.stats.contrasts import Contrasts, compare_cells
from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.robust import Array
from tests.fake_pipeline import Noise


@dataclass(frozen=True)
class Design:
    """What one study compares: `settings` (model x GPU), each in `placements`, `repeats` times.

    `uneven` is the standard deviation of the logarithm of the settings' noise: 0.5 makes one
    setting's noise three times another's. `effect` is -0.03 where all other placements are 3 %
    slower than local.
    """

    settings: int = 6
    placements: int = 2
    repeats: int = 5
    effect: float = 0.0
    noise: Noise = Noise(drift=-0.03)
    uneven: float = 0.0


CLEAN = Noise(drift=0.0, outliers=0.0)


def simulate(design: Design, rng: np.random.Generator) -> Array:
    """Throughput (settings, placements, repeats), in shuffled blocks as the runner does."""
    cells = design.settings * design.placements
    order = np.concatenate([rng.permutation(cells) for _ in range(design.repeats)])
    block = np.repeat(np.arange(design.repeats), cells)
    noise = np.empty((cells, design.repeats))
    still = replace(design.noise, sd=0.0)
    noise[order, block] = still.factors(rng, len(order))
    sd = design.noise.sd * np.exp(rng.normal(0, design.uneven, design.settings))
    found = noise.reshape(design.settings, design.placements, design.repeats)
    found = found * np.exp(rng.normal(size=found.shape) * sd[:, None, None])
    found[:, 1:] *= 1 + design.effect
    return 1000.0 * found


def judge(throughput: Array, seed: int, effort: float = 1.0) -> Contrasts:
    """What the analysis makes of it."""
    flat, spent = remove_drift(np.log(throughput).reshape(-1, throughput.shape[-1]))
    return compare_cells(flat.reshape(throughput.shape), spent, 0.02, seed, effort)


@dataclass(frozen=True)
class Outcome:
    """Of many studies: `families` with a claim, `claims` per comparison, intervals that hold the
    truth (`coverage`), and the median smallest detectable effect."""

    families: float
    claims: float
    coverage: float
    detectable: float


def outcome(design: Design, studies: int, seed: int = 0, effort: float = 0.05) -> Outcome:
    """Simulate and judge so many studies, each with a twentieth of the draws of a real one."""
    rng = np.random.default_rng(seed)
    truth = np.log1p(design.effect)
    judged = [judge(simulate(design, rng), seed + i, effort) for i in range(studies)]
    claimed = np.array([j.claimed[:, 1:] for j in judged])
    covered = np.array([(j.low <= truth) & (truth <= j.high) for j in judged])[..., 1:]
    return Outcome(
        families=float(claimed.any(axis=(1, 2)).mean()),
        claims=float(claimed.mean()),
        coverage=float(covered.mean()),
        detectable=float(np.median([-np.expm1(-j.detectable[:, 1:]) for j in judged])),
    )
