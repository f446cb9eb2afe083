"""Hosts one after the other give what one table of all their runs gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.read.groups import difference_table, group_table
from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.stats.pooled.hosts import compare_hosts
from numa_bench.analysis.stats.pooled.partitions import compare_partitions, load_partitions
from numa_bench.analysis.stats.pooled.table import pool_effects
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study

TARGET = 0.02


@pytest.mark.slow
def test_nothing_is_lost_by_forgetting_the_runs_of_a_host(tmp_path: Path) -> None:
    study = scenario(
        "numa_study", one_gpu(), models((32, 0, 512)), 3, numa_nodes=["local", "remote"]
    )
    sources = []
    for number, host in enumerate(("gpu-a", "gpu-b", "gpu-c")):
        machine = replace(study.machine, effect=0.2 if number == 1 else 0.0)
        changes = {"numa_mode": "NPS1" if number == 1 else "NPS4"}
        made = write_study(
            tmp_path / host,
            replace(study, host=host, machine=machine, seed=number, changes=changes),
        )
        sources.append([made / "results.json"])

    found = compare_partitions(load_partitions(sources, TARGET), TARGET)

    loaded = load_studies([path for paths in sources for path in paths])
    pooled = pool_effects(loaded.frame, "throughput_samples_per_s", TARGET)
    expected = compare_hosts(pooled, group_table(loaded.frame), difference_table(loaded), TARGET)
    assert found.texts == expected.texts
    assert "on gpu-b" in found.texts[0]
    assert "NUMA mode NPS1 against NPS4" in found.texts[0]
    pd.testing.assert_frame_equal(found.table, expected.table)


def test_no_hosts_are_no_comparison() -> None:
    assert compare_partitions([], TARGET).table.empty
