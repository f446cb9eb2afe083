"""Hosts one after the other give what one table of all their runs gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.read.groups import difference_table, group_table
from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.stats.pooled.headline import write_headline
from numa_bench.analysis.stats.pooled.hosts import compare_hosts
from numa_bench.analysis.stats.pooled.partitions import (
    group_by_host,
    join_partitions,
    load_partitions,
)
from numa_bench.analysis.stats.pooled.table import pool_effects
from numa_bench.jsonio import write_json
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

    fleet = join_partitions(load_partitions(sources, TARGET), TARGET)
    found = fleet.hosts

    loaded = load_studies([path for paths in sources for path in paths])
    pooled = pool_effects(loaded.frame, "throughput_samples_per_s", TARGET)
    expected = compare_hosts(pooled, group_table(loaded.frame), difference_table(loaded), TARGET)
    assert found.texts == expected.texts
    assert "on gpu-b" in found.texts[0]
    assert "NUMA mode NPS1 against NPS4" in found.texts[0]
    pd.testing.assert_frame_equal(found.table, expected.table)
    kept = pooled[pooled["level"].isin(fleet.pooled["level"].unique())].reset_index(drop=True)
    pd.testing.assert_frame_equal(fleet.pooled, kept)
    headlines = {
        group: write_headline(rows, TARGET) for group, rows in pooled.groupby("group", sort=False)
    }
    assert fleet.verdicts == {group: found.text for group, found in headlines.items() if found}
    assert fleet.runs == len(loaded.frame)


def test_studies_of_a_host_are_in_one_partition(tmp_path: Path) -> None:
    """Also those of a study that was resumed on another host."""
    hosts = {"0": ["a"], "1": ["b"], "2": ["a"], "3": ["c", "b"], "4": ["d"]}
    paths = {}
    for name, own in hosts.items():
        environments = {host: {"host": host} for host in own}
        summary = {"machine": {"host": own[0]}, "environments": environments}
        write_json(tmp_path / name / "experiment_summary.json", summary)
        paths[name] = tmp_path / name / "results.json"

    found = group_by_host(paths.values())

    assert sorted([p.parent.name for p in part] for part in found) == [
        ["0", "2"],
        ["1", "3"],
        ["4"],
    ]


def test_no_hosts_are_no_comparison() -> None:
    assert join_partitions([], TARGET).hosts.table.empty
