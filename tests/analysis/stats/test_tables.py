"""Tables, verdicts and comparisons of made-up studies whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.compare import compare_studies
from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.permutation import correct_holm, fit_cells, null_statistics, p_values
from numa_bench.analysis.stats.robust import fit_prior, nan_median, robust_location
from numa_bench.analysis.stats.tables import CELL_COLUMNS, EFFECT_COLUMNS, cell_table, effect_table
from numa_bench.analysis.stats.verdicts import Verdict, change_text, judge_cells, judge_studies
from numa_bench.errors import StoreError
from numa_bench.records import Status
from tests.fake_pipeline import Machine, Noise
from tests.fake_scenarios import experiment, models, numa_study, one_gpu, server8, write_kind
from tests.fake_study import Scenario, again, write_study
from tests.machines import server

QUIET = Noise(sd=0.003, drift=0.0, outliers=0.0)


def runs_of(tmp_path: Path, scenario: Scenario) -> pd.DataFrame:
    """The table of one made-up study."""
    return load_runs([write_study(tmp_path, replace(scenario, raw=0))])


def judged(runs: pd.DataFrame, **settings: Any) -> list[Verdict]:
    return judge_cells(effect_table(runs), runs, **settings)


# --- numbers ---------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8))
@settings(max_examples=50, deadline=None)
def test_the_median_ignores_runs_that_are_not_there(values: list[float]) -> None:
    padded = np.array([[*values, np.nan, np.nan]])
    assert nan_median(padded)[0] == pytest.approx(np.median(values))


def test_the_location_is_the_mean_without_outliers_and_nearly_so_with_one() -> None:
    quiet = np.array([[0.0, 0.01, -0.01, 0.005, -0.005]])
    scale = np.array([0.01])
    assert robust_location(quiet, scale)[0][0] == pytest.approx(0.0, abs=1e-12)
    slow = np.array([[0.0, 0.01, -0.01, 0.005, -0.2]])
    assert robust_location(slow, scale)[0][0] == pytest.approx(0.00125)


def test_two_of_five_runs_elsewhere_leave_no_majority_and_all_count() -> None:
    centre, weight, mixed = robust_location(
        np.array([[0.0, 0.0, 0.0, -0.1, -0.1]]), np.array([0.01])
    )
    assert mixed[0]
    assert centre[0] == pytest.approx(-0.04)
    assert weight.sum() == 5


def test_the_prior_of_like_variances_is_worth_much_and_of_unlike_ones_little() -> None:
    rng = np.random.default_rng(0)
    freedom = np.full(40, 8.0)
    like = rng.chisquare(8, 40) / 8
    unlike = like * np.exp(rng.normal(0, 1.5, 40))
    assert fit_prior(like, freedom).worth > 30
    assert fit_prior(unlike, freedom).worth < 5
    assert fit_prior(like, freedom).variance == pytest.approx(1.0, rel=0.2)
    assert fit_prior(like[:2], freedom[:2]).worth == 0


def test_holm_agrees_with_its_definition() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # Worked by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 not below the one before.
    assert correct_holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_single_comparison_agrees_with_an_exact_permutation_test() -> None:
    rng = np.random.default_rng(1)
    pairs = rng.normal(0, 0.01, (2, 5))
    pairs[1] += 0.012
    values = pairs[None]
    fitted = fit_cells(values)
    p = p_values(fitted.studentised_differences[:, 1], null_statistics(values, fitted, 0))[0]
    exact = scipy_stats.permutation_test(
        (pairs[0], pairs[1]), lambda a, b: scipy_stats.ttest_ind(a, b).statistic
    ).pvalue
    assert p == pytest.approx(exact, abs=0.05)


def test_p_is_never_zero() -> None:
    assert p_values(np.array([99.0]), np.zeros(999))[0] == pytest.approx(1 / 1000)


@pytest.mark.parametrize("cells", [2, 12])
def test_drift_is_taken_out_and_the_cells_keep_their_differences(cells: int) -> None:
    rng = np.random.default_rng(2)
    level = rng.normal(0, 0.5, (cells, 1))
    drift = np.linspace(0, -0.2, 5)
    still, spent = remove_drift(level + drift + rng.normal(0, 0.001, (cells, 5)))
    assert np.ptp(still - level, axis=1).max() < 0.01
    assert still.mean(axis=1) - level[:, 0] == pytest.approx(drift.mean(), abs=0.003)
    assert 0 < spent < 0.2


def test_drift_of_missing_runs_changes_nothing_else() -> None:
    values = np.tile(np.linspace(0, -0.1, 6), (10, 1))
    values[3, 2] = values[4] = np.nan
    still, _ = remove_drift(values)
    assert np.isnan(still[3, 2])
    assert np.nanmax(np.abs(np.diff(still[[0, 1, 2]], axis=1))) < 1e-9


# --- tables ----------------------------------------------------------------------------------


def test_a_known_effect_is_measured(tmp_path: Path) -> None:
    machine = Machine(one_gpu(), effect=0.2)
    study = experiment("known", models((32, 0, 0), (16, 12, 1024)), repeats=7)
    runs = runs_of(tmp_path, Scenario(machine, study, noise=QUIET))
    table = effect_table(runs).set_index("vit_name")
    assert table.loc["vit32x0", "ratio"] == pytest.approx(0.8, rel=0.01)
    assert table["low"]["vit32x0"] < 0.8 < table["high"]["vit32x0"]
    assert table.loc["vit32x0", "claimed"]
    assert table.loc["vit16x12x1024", "ratio"] == pytest.approx(1.0, rel=0.01)
    assert not table.loc["vit16x12x1024", "claimed"]


def test_cells_have_their_statistics(tmp_path: Path) -> None:
    bad = {0: Status.FAILED}
    runs = runs_of(tmp_path, replace(numa_study(one_gpu()), bad=bad))
    table = cell_table(runs)
    assert tuple(table.columns) == CELL_COLUMNS
    assert len(table) == 12
    assert table["n"].sum() == 59
    assert table["excluded"].sum() == 1
    assert (table["low"] <= table["median"]).all()
    assert (table["median"] <= table["high"]).all()
    cell = runs[runs["cell"] == table["cell"].iloc[3]]
    assert table["median"].iloc[3] == cell["throughput_samples_per_s"].median()
    assert table["unit"].eq("samples/s").all()


def test_the_same_runs_give_the_same_numbers_in_any_order(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu()))
    pd.testing.assert_frame_equal(effect_table(runs), effect_table(runs))
    mixed = runs.sample(frac=1, random_state=0)
    first, second = (effect_table(frame).set_index("cell").sort_index() for frame in (runs, mixed))
    assert second["ratio"].to_numpy() == pytest.approx(first["ratio"].to_numpy())
    assert (first["claimed"] == second["claimed"]).all()


def test_latency_is_judged_too_and_longer_is_above_one(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu(), noise=QUIET))
    table = effect_table(runs, metric="latency_p50_ms").set_index("vit_name")
    assert table["ratio"]["vit32x0"] > 1.1
    assert table.loc["vit32x0", "claimed"]
    assert "longer" in change_text(table.loc["vit32x0"].to_dict())


@pytest.mark.slow
def test_every_remote_node_is_compared_by_itself(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, replace(numa_study(server8(), noise=QUIET)))
    table = effect_table(runs)
    assert len(table) == 8 * 6 * 3
    assert set(table["family_size"]) == {144}
    near = table[(table["gpu_id"] == 0) & (table["vit_name"] == "vit32x0")]
    assert near["ratio"].max() == pytest.approx(1 - 0.2 * 2 / 22, rel=0.02)
    assert near["ratio"].min() == pytest.approx(0.8, rel=0.02)


def test_without_a_gpu_each_node_is_compared_to_its_own_local(tmp_path: Path) -> None:
    machine = Machine(replace(server(), gpus=()))
    study = experiment("cpu", models((32, 0, 0)))
    runs = runs_of(tmp_path, Scenario(machine, study, noise=QUIET))
    assert sorted(runs["placement"].unique()) == ["local", "remote"]
    table = effect_table(runs)
    cells = runs.drop_duplicates("cell").set_index("cell")
    assert len(table) == 2
    for row in table.to_dict("records"):
        base = cells.loc[row["base_cell"]]
        assert (base["placement"], base["numa_node"]) == ("local", row["numa_node"])


def test_cells_of_different_studies_of_a_sweep_are_not_called_interleaved(tmp_path: Path) -> None:
    write_kind(tmp_path, "sweep")
    runs = load_runs(tmp_path)
    assert not effect_table(runs)["interleaved"].any()
    assert all("not measured in turns" in verdict.text for verdict in judged(runs))


def test_nothing_to_compare_gives_empty_tables(tmp_path: Path) -> None:
    write_kind(tmp_path, "laptop")
    runs = load_runs(tmp_path)
    assert tuple(effect_table(runs).columns) == EFFECT_COLUMNS
    assert effect_table(runs).empty
    assert tuple(cell_table(runs.iloc[:0]).columns) == CELL_COLUMNS


def test_identical_values_are_no_error(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu()))
    runs["throughput_samples_per_s"] = 100.0
    table = effect_table(runs)
    assert (table["ratio"] == 1).all()
    assert not table["claimed"].any()


# --- words -----------------------------------------------------------------------------------


def test_an_effect_is_said_with_size_interval_and_n(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu(), noise=QUIET))
    verdict = next(v for v in judged(runs) if v.model_text == "vit32x0")
    assert verdict.kind == "effect"
    assert verdict.text.startswith("remote is ")
    assert "% slower (95 % CI " in verdict.text
    assert verdict.text.endswith("n = 5 x 5)")
    assert verdict.change is not None
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < verdict.change < verdict.high < 0
    assert json.loads(json.dumps(verdict.to_dict()))["placement"] == "remote"


def test_no_difference_says_what_would_have_shown(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu(), effect=0.0, noise=QUIET))
    found = judged(runs)
    assert {v.kind for v in found} == {"no_difference"}
    assert all("no difference; one of 0." in v.text for v in found)
    (study,) = judge_studies(found, runs)
    assert study.kind == "no_difference"
    assert study.text.startswith("No difference in 6 comparisons with local; one of ")
    assert study.claims == 0


def test_too_noisy_says_how_many_repeats_are_needed(tmp_path: Path) -> None:
    noisy = Noise(sd=0.05, drift=0.0, outliers=0.0)
    runs = runs_of(tmp_path, numa_study(one_gpu(), effect=0.0, noise=noisy))
    found = judged(runs)
    assert {v.kind for v in found} == {"not_enough"}
    needed = [v.repeats_needed for v in found]
    assert all(n is not None and n > 20 for n in needed)
    assert f"repeat with experiment.repeats={needed[0]} for 2 %" in found[0].text
    finer = [v.repeats_needed or 0 for v in judged(runs, target=0.01)]
    assert min(finer) > max(n or 0 for n in needed)
    (study,) = judge_studies(found, runs)
    assert f"experiment.repeats={max(n or 0 for n in needed)}" in study.text


@pytest.mark.parametrize(("repeats", "said"), [(1, "from one run"), (2, "from 2 runs")])
def test_too_few_repeats_give_no_verdict(tmp_path: Path, repeats: int, said: str) -> None:
    scenario = numa_study(one_gpu())
    study = replace(scenario.experiment, repeats=repeats)
    runs = runs_of(tmp_path, replace(scenario, experiment=study))
    found = judged(runs)
    assert {v.kind for v in found} == {"no_verdict"}
    assert all(said in v.text and "experiment.repeats=5" in v.text for v in found)
    assert judge_studies(found, runs)[0].kind == "no_verdict"


def test_without_local_or_without_another_placement_it_says_so(tmp_path: Path) -> None:
    for words, said in (("remote", "no local placement"), ("local", "only one placement")):
        study = experiment(words, models((32, 0, 0)), numa_nodes=words)
        runs = runs_of(tmp_path, Scenario(Machine(one_gpu()), study))
        assert said in judged(runs)[0].text


def test_local_without_a_valid_run_is_said(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu()))
    runs.loc[runs["placement"] == "local", "in_statistics"] = False
    found = judged(runs)
    assert {v.kind for v in found} == {"no_verdict"}


@pytest.mark.slow
def test_an_answer_for_each_group(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu(), noise=QUIET), raw=0)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first, host="other"))
    runs = load_runs(tmp_path)
    answers = judge_studies(judged(runs), runs)
    assert len(answers) == 2
    assert all(a.text.startswith("Placement matters here: 3 of 6") for a in answers)
    assert all(any("slower in 3 of 6" in line for line in a.details) for a in answers)


# --- two studies -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("speedup", "limit", "regressed"),
    [
        (0.95, 0.03, True),
        (0.95, None, False),
        (0.98, 0.03, False),
        (1.0, 0.03, False),
        (1.1, 0.03, False),
    ],
)
def test_a_fall_is_a_regression_only_beyond_the_limit(
    tmp_path: Path, speedup: float, limit: float | None, regressed: bool
) -> None:
    first = replace(numa_study(one_gpu(), noise=QUIET), raw=0)
    machine = replace(first.machine, speedup=speedup)
    before = load_runs([write_study(tmp_path, first)])
    driver = {"nvidia_driver": "999"}
    after = load_runs([write_study(tmp_path, again(first, machine=machine, changes=driver))])
    found = compare_studies(before, after, limit)
    assert found.regressed is regressed
    assert len(found.table) == 12
    assert found.unmatched.empty
    assert found.table["ratio"].to_numpy() == pytest.approx(speedup, rel=0.01)
    assert bool(found.table["claimed"].all()) is (speedup != 1.0)
    assert "999" in found.differences.set_index("key").loc["env_nvidia_driver"].to_numpy()


def test_cells_of_one_side_are_told_and_nothing_is_pooled(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu()), raw=0)
    before = load_runs([write_study(tmp_path, first)])
    fewer = replace(first.experiment, vit_configs=first.experiment.vit_configs[:2])
    after = load_runs([write_study(tmp_path, again(first, experiment=fewer))])
    found = compare_studies(before, after)
    assert len(found.table) == 4
    assert found.unmatched["side"].tolist() == ["before"] * 8
    write_study(tmp_path, again(first, host="other", seed=3))
    with pytest.raises(StoreError, match="in 2 environments"):
        compare_studies(before, load_runs(tmp_path))
    with pytest.raises(StoreError, match="before holds no run"):
        compare_studies(before.iloc[:0], after)


def test_studies_without_a_common_cell_have_nothing_to_compare(tmp_path: Path) -> None:
    first, second = (
        load_runs([write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))])
        for study in (experiment("a", models((32, 2, 128))), experiment("b", models((32, 4, 128))))
    )
    found = compare_studies(first, second, 0.03)
    assert found.table.empty
    assert not found.regressed
    assert found.text == "The two studies have no cell in common."


# --- the made-up machine ---------------------------------------------------------------------


def test_the_made_up_effect_is_where_it_should_be(tmp_path: Path) -> None:
    machine = Machine(server8(), effect=0.2)
    study = experiment("x", models((32, 0, 0)), gpu_ids=[0])
    runs = runs_of(tmp_path, Scenario(machine, study, noise=Noise(0.0, 0.0, 0.0)))
    rate = runs.groupby("numa_node")["h2d_gb_per_s"].median()
    assert rate.to_dict() == pytest.approx({0: 50.0, 1: 50 * (1 - 0.2 * 2 / 22), 2: 40.0, 3: 40.0})
