"""Two studies compared: regressions, unmatched cells, and what must not be pooled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.compare import compare_studies
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
