"""Tables of cells and effects: what is measured, in which columns, in any order of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.sentences import describe_change
from numa_bench.analysis.stats.tables import CELL_COLUMNS, EFFECT_COLUMNS, cell_table, effect_table
from numa_bench.records import Status
from tests.analysis.stats.made_up import QUIET, judged, runs_of
from tests.fake_pipeline import Machine, Noise
from tests.fake_scenarios import experiment, models, numa_study, one_gpu, server8, write_kind
from tests.fake_study import Scenario
from tests.machines import server


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


@pytest.mark.slow
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
    assert "longer" in describe_change(table.loc["vit32x0"].to_dict())


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
    assert all("not interleaved with local" in verdict.text for verdict in judged(runs))


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


def test_the_made_up_effect_is_where_it_should_be(tmp_path: Path) -> None:
    machine = Machine(server8(), effect=0.2)
    study = experiment("x", models((32, 0, 0)), gpu_ids=[0])
    runs = runs_of(tmp_path, Scenario(machine, study, noise=Noise(0.0, 0.0, 0.0)))
    rate = runs.groupby("numa_node")["h2d_gb_per_s"].median()
    assert rate.to_dict() == pytest.approx({0: 50.0, 1: 50 * (1 - 0.2 * 2 / 22), 2: 40.0, 3: 40.0})
