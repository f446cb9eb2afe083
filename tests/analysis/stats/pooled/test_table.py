"""The table of pooled effects of made-up studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.stats.pooled.table import (
    BOUND,
    MODEL,
    POOLED_COLUMNS,
    UNIT,
    pool_effects,
)
from numa_bench.analysis.stats.tables import TARGET, THROUGHPUT
from tests.analysis.stats.made_up import runs_of
from tests.fake_scenarios import desktop, numa_study, one_gpu, server8


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    runs = runs_of(tmp_path_factory.mktemp("server8"), numa_study(server8()))
    return pool_effects(runs, THROUGHPUT, TARGET)


def test_every_level_and_placement_has_its_rows(pooled: pd.DataFrame) -> None:
    assert tuple(pooled.columns) == POOLED_COLUMNS
    assert set(pooled["level"]) == {BOUND, MODEL, UNIT}
    groups = pooled[pooled["level"] == BOUND]
    assert not groups.duplicated(["bound", "placement"]).any()
    # Each model is in one group; a group of one is not repeated as a model.
    for place, rows in groups.groupby("placement"):
        models = [m for row in rows["models"] for m in row]
        assert len(models) == len(set(models)) > 1
        single = pooled[(pooled["level"] == MODEL) & (pooled["placement"] == place)]
        larger = [m for row in rows["models"] if len(row) > 1 for m in row]
        assert sorted(single["model_text"]) == sorted(larger)


def test_rows_name_units_and_are_corrected_with_those_they_are_shown_with(
    pooled: pd.DataFrame,
) -> None:
    units = pooled["level"] == UNIT
    assert (pooled.loc[units, "units"] == 1).all()
    assert (pooled.loc[~units, "units"] > 1).all()
    assert pooled.loc[units, "family_size"].unique() == [units.sum()]
    assert pooled.loc[~units, "family_size"].unique() == [(~units).sum()]
    assert (pooled["gpus"] == pooled["units"]).all()


def test_what_costs_throughput_is_claimed_and_the_rest_is_equal(pooled: pd.DataFrame) -> None:
    shown = pooled[pooled["level"] == BOUND]
    transfer = shown[(shown["bound"] == "transfer") & (shown["placement"] == "remote")]
    assert transfer["claimed"].all()
    assert (transfer["ratio"] < 0.98).all()
    assert ((shown["low"] < shown["ratio"]) & (shown["ratio"] < shown["high"])).all()
    assert (shown["claimed"] <= ((shown["low"] > 1) | (shown["high"] < 1))).all()
    inside = (shown["low"] > 1 - TARGET) & (shown["high"] < 1 / (1 - TARGET))
    assert (shown["equal"] == inside).all()
    assert shown["equal"].any()


def test_one_gpu_has_no_rows_of_units(tmp_path: Path) -> None:
    table = pool_effects(runs_of(tmp_path, numa_study(one_gpu())), THROUGHPUT, TARGET)
    assert UNIT not in set(table["level"])
    assert (table["units"] == 1).all()


def test_without_comparisons_the_table_is_empty(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(desktop()))
    none = runs[runs["placement"] == "local"]
    for frame in (none, runs.iloc[:0]):
        table = pool_effects(frame, THROUGHPUT, TARGET)
        assert table.empty
        assert tuple(table.columns) == POOLED_COLUMNS


def test_a_model_without_a_metric_is_no_part_of_it(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu()))
    first = runs["model_text"].iloc[0]
    runs.loc[runs["model_text"] == first, THROUGHPUT] = np.nan
    table = pool_effects(runs, THROUGHPUT, TARGET)
    assert first not in {m for models in table["models"] for m in models}
    assert not table.empty
