"""Rates of false and of missed claims on simulated studies with known effects.

Seeded, so a test here passes always or never. Bounds are what a true rate exceeds once in a
thousand times. The same on a larger scale: benchmarks/honesty.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from numa_bench.analysis.stats.contrasts import compare_cells
from tests.fake_families import Design, judge_singles, simulate
from tests.fake_noise import MODELS
from tests.honesty_figures import (
    Rate,
    measure_detectable_pooled,
    measure_detectable_single,
    measure_pooled,
    measure_singles,
    summarise,
)

pytestmark = pytest.mark.slow

SMALL = Design()
LARGE = Design(models=6, gpus=8, placements=4)


def rates(
    measure: Callable[[Design, int], dict[str, float]], design: Design, studies: int
) -> dict[str, Rate]:
    return summarise([measure(design, 1000 + seed) for seed in range(studies)])


def most_by_chance(rate: float, studies: int) -> float:
    return float(binom.ppf(0.999, studies, rate)) / studies


def least_by_chance(rate: float, studies: int) -> float:
    return float(binom.ppf(0.001, studies, rate)) / studies


@pytest.mark.parametrize("noise", ["real", "noisy remote", "noisy local", "two modes"])
def test_without_an_effect_few_large_studies_hold_a_false_claim(noise: str) -> None:
    studies = 15
    found = rates(measure_singles, replace(LARGE, noise=MODELS[noise]), studies)
    assert found["false"].value <= most_by_chance(0.06, studies)
    # Two states of the clock make intervals too short: docs/statistics.md names the rate.
    assert found["coverage"].value >= (0.92 if noise != "two modes" else 0.85)


@pytest.mark.parametrize("noise", ["uneven", "heavy tails", "step of a GPU", "missing runs"])
def test_neither_do_small_ones(noise: str) -> None:
    found = rates(measure_singles, replace(SMALL, noise=MODELS[noise]), 40)
    assert found["false"].value <= most_by_chance(0.06, 40)


def test_a_single_comparison_with_a_noisy_remote_side_is_rarely_a_false_claim() -> None:
    design = Design(models=1, noise=MODELS["noisy remote"])
    assert rates(measure_singles, design, 50)["false"].value <= most_by_chance(0.05, 50)


@pytest.mark.parametrize("repeats", [3, 5])
def test_an_error_shared_by_a_block_and_placement_misleads_few_pooled_contrasts(
    repeats: int,
) -> None:
    design = replace(SMALL, repeats=repeats, noise=MODELS["shared"])
    found = rates(measure_pooled, design, 200)
    assert found["false"].value <= most_by_chance(0.06, 200)


@pytest.mark.parametrize("noise", ["clean", "noisy remote", "two modes"])
def test_without_an_effect_few_pooled_contrasts_claim_one(noise: str) -> None:
    found = rates(measure_pooled, replace(LARGE, noise=MODELS[noise]), 60)
    assert found["false"].value <= most_by_chance(0.06, 60)
    assert found["false_of_units"].value <= most_by_chance(0.06, 60)
    assert found["coverage"].value >= 0.92


def test_an_effect_of_three_per_cent_is_found_in_spite_of_outliers() -> None:
    found = rates(measure_singles, replace(SMALL, effect=-0.03), 60)
    # Comparisons of a study share its noise, so their number is between these.
    assert found["found"].value >= least_by_chance(0.81, 60)


def test_pooling_finds_half_as_much_in_half_of_the_models() -> None:
    design = replace(LARGE, effect=-0.015, affected=3, last_only=True)
    found = rates(measure_pooled, design, 50)
    assert found["found"].value >= least_by_chance(0.95, 50)
    assert found["false"].value <= most_by_chance(0.055, 50)


@pytest.mark.parametrize(
    ("measure", "studies"), [(measure_detectable_single, 40), (measure_detectable_pooled, 150)]
)
def test_an_effect_of_exactly_the_detectable_size_is_found_four_times_of_five(
    measure: Callable[[Design, int], dict[str, float]], studies: int
) -> None:
    power = rates(measure, replace(SMALL, noise=MODELS["clean"]), studies)["power"].value
    assert least_by_chance(0.80, studies) <= power <= most_by_chance(0.80, studies)


def test_so_it_is_after_the_verdict_no_difference() -> None:
    design = replace(SMALL, noise=MODELS["clean"], varied=True)
    power = rates(measure_detectable_pooled, design, 200)["power_after_no_difference"]
    assert power.studies > 30
    assert least_by_chance(0.80, power.studies) <= power.value


def test_the_repeats_it_asks_for_are_enough() -> None:
    found = rates(measure_detectable_pooled, replace(SMALL, varied=True), 120)["repeats_enough"]
    assert found.studies > 30
    assert found.value >= least_by_chance(0.80, found.studies)


def test_intervals_of_three_repeats_hold_the_truth() -> None:
    design = replace(SMALL, repeats=3)
    assert rates(measure_singles, design, 60)["coverage"].value >= 0.93
    assert rates(measure_pooled, design, 100)["coverage"].value >= 0.93


def test_the_interval_of_a_pooled_claim_holds_the_truth_and_of_the_largest_single_one_not() -> None:
    design = replace(LARGE, effect=-0.015, affected=3, last_only=True)
    assert rates(measure_pooled, design, 50)["coverage_of_claimed"].value >= 0.90
    largest = rates(measure_singles, design, 20)
    assert largest["coverage_of_largest"].value < 0.90
    # Selection by size: what is found first looks larger than it is.
    assert largest["size_of_largest"].value > 0.018


def test_a_true_difference_of_two_per_cent_is_rarely_called_equal() -> None:
    quiet = replace(MODELS["real"], sd=0.003)
    found = rates(measure_pooled, replace(SMALL, effect=-0.02, noise=quiet), 200)
    assert found["false_equal"].value <= most_by_chance(0.05, 200)
    assert rates(measure_pooled, replace(SMALL, noise=quiet), 50)["equal"].value >= 0.95


def test_three_repeats_of_one_setting_can_show_nothing_and_nothing_is_detectable() -> None:
    quiet = Design(models=1, repeats=3, effect=-0.5, noise=MODELS["clean"])
    judged = judge_singles(simulate(quiet, np.random.default_rng(12)))
    assert not judged.claimed.any()
    assert np.isnan(judged.detectable[0, 1])
    assert judged.repeats[0, 1] >= 4


def test_more_noise_more_comparisons_and_smaller_targets_need_more_repeats() -> None:
    def needed(target: float, sd: float = 0.01, models: int = 6) -> float:
        noise = replace(MODELS["clean"], sd=sd)
        values = simulate(Design(models=models, noise=noise), np.random.default_rng(12))[:, 0]
        repeats = compare_cells(values, 0.0, target, effort=0.05).repeats[:, 1]
        # More than are ever advised count as many.
        return float(np.median(np.nan_to_num(repeats, nan=np.inf)))

    assert needed(0.02) < needed(0.01) < needed(0.0001)
    assert needed(0.02) < needed(0.02, sd=0.02)
    assert needed(0.02) < needed(0.02, models=48)
    assert needed(0.0001) == np.inf
