"""Studies that are pooled: their different levels are neither noise nor an effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.families import build_families, remove_study_drift
from numa_bench.analysis.stats.levels import fit_levels, link_studies
from numa_bench.analysis.stats.tables import THROUGHPUT, effect_table
from tests.analysis.stats.made_up import QUIET
from tests.fake_scenarios import numa_study, one_gpu
from tests.fake_study import again, write_study

NAN = np.nan


def pooled_days(tmp_path: Path, speedup: float, effect: float = 0.0) -> pd.DataFrame:
    """The runs of one study, and of the same study on a second, faster or slower day."""
    first = replace(numa_study(one_gpu(), effect, noise=QUIET), raw=0)
    machine = replace(first.machine, speedup=speedup)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first, machine=machine))
    return load_runs(tmp_path)


def test_levels_are_found_on_the_cells_that_studies_share() -> None:
    cells = np.array([1.0, 2.0, 3.0, 4.0])
    levels, spent = fit_levels(cells[:, None] + np.array([0.02, -0.03, 0.01]))
    assert levels == pytest.approx([0.02, -0.03, 0.01])
    assert spent == 2
    # A study linked through another one, and a cell that only the last has.
    table = np.array([[1.0, 1.1, NAN], [NAN, 2.1, 2.3], [NAN, NAN, 9.0]])
    levels, spent = fit_levels(table)
    assert levels == pytest.approx([-0.4 / 3, -0.1 / 3, 0.5 / 3], abs=1e-6)
    assert spent == 2


def test_studies_without_a_common_cell_keep_their_levels() -> None:
    table = np.array([[1.0, NAN, 1.2], [NAN, 2.0, NAN]])
    assert link_studies(np.isfinite(table)).tolist() == [0, 1, 0]
    levels, spent = fit_levels(table)
    assert levels == pytest.approx([-0.1, 0.0, 0.1])
    assert spent == 1


def test_a_cell_that_changed_by_itself_does_not_move_the_level() -> None:
    table = np.add.outer(np.arange(8.0), [0.0, 0.04])
    table[3, 1] -= 0.5
    table += np.random.default_rng(0).normal(0, 0.001, table.shape)
    levels, _ = fit_levels(table)
    assert levels[1] - levels[0] == pytest.approx(0.04, abs=0.004)


def test_the_level_of_a_day_is_neither_noise_nor_an_effect(tmp_path: Path) -> None:
    runs = pooled_days(tmp_path, speedup=0.95)
    effects = effect_table(runs)
    assert runs["study_dir"].nunique() == 2
    assert (effects["n"] == 10).all()
    assert not effects["claimed"].any()
    # With the level of 5 % as noise, nothing below 5 % would be.
    assert effects["detectable"].max() < 0.01


def test_the_levels_of_studies_are_paid_for(tmp_path: Path) -> None:
    runs = pooled_days(tmp_path, speedup=0.95)
    _, kept = remove_study_drift(runs, THROUGHPUT, levels=False)
    _, removed = remove_study_drift(runs, THROUGHPUT)
    assert (removed - kept) * len(runs) == pytest.approx(1.0)


def test_a_cell_of_one_study_is_compared_with_that_study_only(tmp_path: Path) -> None:
    runs = pooled_days(tmp_path, speedup=0.95)
    second = runs["study_dir"] == sorted(runs["study_dir"].unique())[1]
    # Remote cells on the second day only: the pooled local ones are faster by half the level.
    runs = runs[second | (runs["placement"] == "local")]
    effects = effect_table(runs)
    assert (effects["n"] == 5).all()
    assert (effects["n_base"] == 5).all()
    assert not effects["claimed"].any()
    assert effects["ratio"].to_numpy() == pytest.approx(1.0, abs=0.006)


def test_cells_without_a_common_study_are_compared_with_all_runs(tmp_path: Path) -> None:
    runs = pooled_days(tmp_path, speedup=1.0)
    second = runs["study_dir"] == sorted(runs["study_dir"].unique())[1]
    runs = runs[second == (runs["placement"] == "local")]
    (family,) = build_families(runs, THROUGHPUT)
    assert np.isfinite(family.values).sum() == len(runs)
    assert family.spent == pytest.approx(2 / len(runs))
