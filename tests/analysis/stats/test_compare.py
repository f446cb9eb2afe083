"""Studies compared: regressions, unmatched cells, days, and what must not be pooled."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.compare.studies import assign_days, compare_studies
from numa_bench.errors import StoreError
from tests.analysis.stats.made_up import QUIET
from tests.fake_pipeline import Machine
from tests.fake_scenarios import experiment, models, numa_study, one_gpu
from tests.fake_study import Scenario, again, write_study


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
    comparison = compare_studies(before, after, limit)
    assert comparison.regressed is regressed
    assert len(comparison.table) == 12
    assert comparison.unmatched.empty
    assert comparison.table["ratio"].to_numpy() == pytest.approx(speedup, rel=0.01)
    assert bool(comparison.table["claimed"].all()) is (speedup != 1.0)
    assert "999" in comparison.differences.set_index("key").loc["env_nvidia_driver"].to_numpy()
    # One day on each side: what days differ by is unknown, and the sentence says so.
    assert "How much days differ is not known" in comparison.text
    assert comparison.shift.ratio == pytest.approx(speedup, rel=0.01)
    assert comparison.shift.day_freedom == 0
    assert comparison.shift.to_dict()["low"] is None
    assert comparison.table["own_ratio"].isna().all()


def test_cells_of_one_side_are_listed_and_nothing_is_pooled(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu()), raw=0)
    before = load_runs([write_study(tmp_path, first)])
    fewer = replace(first.experiment, vit_configs=first.experiment.vit_configs[:2])
    after = load_runs([write_study(tmp_path, again(first, experiment=fewer))])
    comparison = compare_studies(before, after)
    assert len(comparison.table) == 4
    assert comparison.unmatched["side"].tolist() == ["before"] * 8
    write_study(tmp_path, again(first, host="other", seed=3))
    with pytest.raises(StoreError, match="in 2 environments"):
        compare_studies(before, load_runs(tmp_path))
    with pytest.raises(StoreError, match="before has no run"):
        compare_studies(before.iloc[:0], after)


def test_studies_without_a_common_cell_have_nothing_to_compare(tmp_path: Path) -> None:
    first, second = (
        load_runs([write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))])
        for study in (experiment("a", models((32, 2, 128))), experiment("b", models((32, 4, 128))))
    )
    comparison = compare_studies(first, second, 0.03)
    assert comparison.table.empty
    assert not comparison.regressed
    assert comparison.text == "The two studies have no cell in common."


def measure_days(tmp_path: Path, speeds: list[float]) -> pd.DataFrame:
    """The runs of one study measured on so many days, the machine faster or slower on each."""
    first = replace(numa_study(one_gpu(), noise=QUIET), raw=0)
    for day, speed in enumerate(speeds):
        machine = replace(first.machine, speedup=speed)
        started = first.started + timedelta(days=day)
        write_study(tmp_path, replace(first, machine=machine, seed=day, started=started))
    return load_runs(tmp_path)


BEFORE = [1.0, 1.012, 0.99, 1.004]


def slow_down(runs: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The runs with one local cell slower."""
    chosen = (runs["vit_name"] == runs["vit_name"].iloc[0]) & (runs["placement"] == "local")
    slower = runs["headline_value"].mask(chosen, runs["headline_value"] * factor)
    return runs.assign(headline_value=slower)


def test_a_day_as_slow_as_days_are_is_neither_claimed_nor_an_alarm(tmp_path: Path) -> None:
    before = measure_days(tmp_path / "before", BEFORE)
    after = measure_days(tmp_path / "after", [0.985])
    several = compare_studies(before, after, 0.0)
    assert not several.regressed
    assert not several.table["claimed"].any()
    assert not several.shift.claimed
    assert several.shift.day_sd == pytest.approx(np.std(np.log(BEFORE), ddof=1), rel=0.2)
    assert several.shift.day_freedom == 3
    assert several.shift.cell_freedom == 3 * 11
    assert (several.table["days_base"] == 4).all()
    assert (several.table["n_base"] == 20).all()
    assert "all together no change shown (1." in several.text
    assert "single cells beyond that: 0 slower, 0 faster" in several.text
    # From one day before, the same fall looks like an effect of every cell.
    first = before[before["study_dir"] == before["study_dir"].min()]
    assert compare_studies(first, after, 0.0).regressed


def test_a_common_shift_is_reported_apart_from_a_single_cell(tmp_path: Path) -> None:
    before = measure_days(tmp_path / "before", BEFORE)
    after = slow_down(measure_days(tmp_path / "after", [0.9]), 0.95)
    comparison = compare_studies(before, after, 0.02)
    assert comparison.shift.claimed
    assert comparison.shift.ratio == pytest.approx(0.9, abs=0.01)
    assert comparison.shift.low < 0.9 < comparison.shift.high
    assert comparison.shift.regression
    assert comparison.regressed
    table = comparison.table.sort_values("own_ratio")
    assert table["claimed"].tolist() == [True, *[False] * 11]
    changed = table.iloc[0]
    assert changed["own_ratio"] == pytest.approx(0.95, abs=0.01)
    assert changed["ratio"] == pytest.approx(0.95 * comparison.shift.ratio, abs=0.01)
    assert changed["low"] < changed["own_low"]
    assert "5." in changed["text"]
    assert "slower" in changed["text"]
    assert "beyond the common shift" in changed["text"]
    assert "in total 14." in changed["text"]
    assert "single cells beyond that: 1 slower, 0 faster" in comparison.text
    assert "all together slower by significantly more than 2 %" in comparison.text


def test_a_fall_of_one_cell_alone_can_be_a_regression(tmp_path: Path) -> None:
    before = measure_days(tmp_path / "before", [1.0, 1.001, 0.999, 1.0])
    after = slow_down(measure_days(tmp_path / "after", [1.0]), 0.95)
    comparison = compare_studies(before, after, 0.02)
    assert comparison.regressed
    assert not comparison.shift.regression
    assert comparison.table["regression"].sum() == 1
    assert not compare_studies(before, after, 0.08).regressed
    assert not compare_studies(before, after).regressed


def test_several_days_after_count_too(tmp_path: Path) -> None:
    before = measure_days(tmp_path / "before", [1.0])
    after = measure_days(tmp_path / "after", [1.0, 1.01, 0.99])
    comparison = compare_studies(before, after)
    assert (comparison.shift.days, comparison.shift.days_base) == (3, 1)
    assert comparison.shift.day_freedom == 2
    assert "From so few days" in " ".join(comparison.details)


def test_a_single_cell_is_judged_by_the_spread_of_days(tmp_path: Path) -> None:
    def one(runs: pd.DataFrame) -> pd.DataFrame:
        return runs[(runs["vit_name"] == "vit32x0") & (runs["placement"] == "local")]

    before = one(measure_days(tmp_path / "before", BEFORE))
    after = one(measure_days(tmp_path / "after", [0.9]))
    comparison = compare_studies(before, after, 0.02)
    (row,) = comparison.table.to_dict("records")
    assert row["claimed"]
    assert math.isnan(row["own_ratio"])
    assert row["p_holm"] == pytest.approx(comparison.shift.p_value)
    assert comparison.regressed
    assert "10." in row["text"]


def test_directories_without_a_common_cell_are_parts_of_one_day() -> None:
    frame = pd.DataFrame(
        {
            "study_dir": ["a", "a", "b", "c", "d"],
            "match": ["x", "y", "z", "x", "z"],
            "start_time": ["1", "1", "2", "3", "4"],
        }
    )
    assert assign_days(frame).tolist() == [0, 0, 0, 1, 1]


def test_days_with_too_few_runs_show_nothing_about_days(tmp_path: Path) -> None:
    before = measure_days(tmp_path / "before", BEFORE[:3])
    after = measure_days(tmp_path / "after", [1.0])
    comparison = compare_studies(before[before["repeat"] < 2], after, 0.01)
    assert comparison.shift.day_freedom == 0
    assert "How much days differ is not known" in comparison.text
    # One good day before is as one study; the cells of the others have too few runs.
    mixed = before[(before["repeat"] < 2) | (before["study_dir"] == before["study_dir"].min())]
    assert compare_studies(mixed, after).shift.day_freedom == 0


def test_frames_that_number_their_runs_alike_are_kept_apart(tmp_path: Path) -> None:
    days = [measure_days(tmp_path / str(i), [speed]) for i, speed in enumerate(BEFORE[:3])]
    days = [d.assign(start_time=f"{i}") for i, d in enumerate(days)]
    comparison = compare_studies(pd.concat(days[:2]), days[2])
    assert (comparison.table["days_base"] == 2).all()
    assert comparison.shift.day_freedom == 1
