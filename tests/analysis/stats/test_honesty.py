"""Rates of false and of missed claims on simulated studies with known effects.

Seeded, so a test here passes always or never. The same on a larger scale: benchmarks/honesty.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from numa_bench.analysis.stats.contrasts import compare_cells
from tests.fake_families import CLEAN, Design, judge, outcome, simulate
from tests.fake_pipeline import Noise

pytestmark = pytest.mark.slow

REAL = Design(settings=6, placements=2, repeats=5)
STUDIES = 120


def most_by_chance(rate: float, studies: int) -> float:
    """The share that a true `rate` exceeds once in a thousand times."""
    return float(binom.ppf(0.999, studies, rate)) / studies


@pytest.mark.parametrize(
    "design",
    [
        REAL,
        replace(REAL, noise=CLEAN),
        replace(REAL, uneven=0.5),
        replace(REAL, settings=1),
        replace(REAL, settings=2, placements=3),
    ],
    ids=["realistic", "clean", "uneven noise", "one setting", "three placements"],
)
def test_without_an_effect_few_families_hold_a_claim(design: Design) -> None:
    assert outcome(design, STUDIES, seed=1, effort=0.05).families <= most_by_chance(0.05, STUDIES)


def test_a_large_family_without_an_effect_holds_no_more_claims_than_a_small_one() -> None:
    found = outcome(replace(REAL, settings=48), 30, seed=2, effort=0.1)
    assert found.families <= most_by_chance(0.05, 30)


def test_a_true_effect_of_three_per_cent_is_found_at_five_repeats() -> None:
    found = outcome(replace(REAL, effect=-0.03), 80, seed=3, effort=0.05)
    assert found.families >= 0.95
    assert found.claims >= 0.85


def test_it_is_found_in_a_large_family_too() -> None:
    found = outcome(replace(REAL, settings=48, effect=-0.03), 10, seed=4, effort=0.1)
    assert found.claims >= 0.80


def test_intervals_cover_the_true_value_about_as_often_as_they_claim() -> None:
    none = outcome(REAL, 60, seed=5, effort=0.05)
    some = outcome(replace(REAL, effect=-0.05, noise=CLEAN), 60, seed=6, effort=0.05)
    assert none.coverage >= 0.90
    assert some.coverage >= 0.90


def test_drift_alone_is_never_taken_for_placement() -> None:
    drift = replace(REAL, noise=Noise(drift=-0.2, outliers=0.0))
    assert outcome(drift, 60, seed=7, effort=0.05).families <= most_by_chance(0.05, 60)


def test_the_effect_that_is_called_detectable_is_detected_four_times_of_five() -> None:
    seen = outcome(replace(REAL, noise=CLEAN), 60, seed=8, effort=0.05).detectable
    found = outcome(replace(REAL, noise=CLEAN, effect=-seen), 60, seed=9, effort=0.05)
    assert 0.70 <= found.claims <= 0.95


def test_the_repeats_it_asks_for_are_enough() -> None:
    judged = judge(simulate(replace(REAL, noise=CLEAN), np.random.default_rng(10)), 0, 0.05)
    needed = int(np.nanmax(judged.repeats))
    assert needed > REAL.repeats
    larger = replace(REAL, noise=CLEAN, repeats=needed, effect=-0.02)
    assert outcome(larger, 40, seed=11, effort=0.05).claims >= 0.75


def test_three_repeats_of_one_setting_can_show_nothing_and_nothing_is_detectable() -> None:
    quiet = replace(REAL, settings=1, repeats=3, effect=-0.5, noise=CLEAN)
    judged = judge(simulate(quiet, np.random.default_rng(12)), 0)
    assert not judged.claimed.any()
    assert np.isnan(judged.detectable[0, 1])
    assert judged.repeats[0, 1] >= 4


def test_more_noise_more_comparisons_and_smaller_targets_need_more_repeats() -> None:
    def needed(target: float, sd: float = 0.01, settings: int = 6) -> float:
        design = replace(REAL, settings=settings, noise=replace(CLEAN, sd=sd))
        values = np.log(simulate(design, np.random.default_rng(12)))
        return float(np.nanmedian(compare_cells(values, 0.0, target, effort=0.05).repeats))

    assert needed(0.02) < needed(0.01)
    assert needed(0.02) < needed(0.02, sd=0.02)
    assert needed(0.02) < needed(0.02, settings=48)
    assert np.isnan(needed(0.0001))
