"""Distances, NUMA mode and links in the table of runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.read.groups import difference_table
from numa_bench.analysis.read.runs import load_runs, load_studies
from numa_bench.analysis.stats.compare.studies import compare_studies
from numa_bench.analysis.stats.tables import cell_table, effect_table
from numa_bench.machine.model import Topology
from tests.fake_pipeline import Machine
from tests.fake_scenarios import experiment, models, one_gpu
from tests.fake_study import Scenario, again, write_study
from tests.machines import server

NEAR, FAR = "same node (distance 10)", "other socket (distance 21)"
KEYS = [
    *("distance_class", "cpu_distance_class", "memory_distance_class"),
    *("cpu_distance", "memory_distance"),
]


def small_study(topology: Topology, **changes: Any) -> Scenario:
    """One model in the default placements, three times."""
    planned = experiment("numa_study", models((32, 0, 512)), 3, numa_nodes=None)
    return Scenario(Machine(topology, 0.2), planned, raw=0, **changes)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, small_study(one_gpu()))


def change(path: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    """Edit a results.json in place."""
    records = json.loads(path.read_text())
    edit(records)
    path.write_text(json.dumps(records))


def texts_of(table: pd.DataFrame) -> dict[str, set[str]]:
    return {str(p): set(part["distance_text"]) for p, part in table.groupby("placement")}


def test_rows_and_tables_have_the_distance_of_their_placement(study: Path) -> None:
    runs = load_runs(study)
    wanted = {
        "local": {NEAR},
        "local/remote": {f"CPUs: {NEAR}, memory: {FAR}"},
        "remote/local": {f"CPUs: {FAR}, memory: {NEAR}"},
        "remote": {FAR},
    }

    assert texts_of(runs) == wanted
    assert texts_of(cell_table(runs)) == wanted
    effects = effect_table(runs)
    assert texts_of(effects) == {k: v for k, v in wanted.items() if k != "local"}
    assert set(effects["distance"]) == {21}
    assert set(effects["distance_class"]) == {"other_socket"}


def test_without_a_gpu_only_the_memory_is_near_or_far(tmp_path: Path) -> None:
    write_study(tmp_path, small_study(replace(server(), gpus=())))

    assert texts_of(load_runs(tmp_path)) == {"local": {NEAR}, "remote": {FAR}}


def test_distances_of_older_records_are_unknown(study: Path) -> None:
    def forget(records: list[dict[str, Any]]) -> None:
        for record in records:
            for key in KEYS:
                del record[key]

    before = load_runs(study)
    change(study / "results.json", forget)
    after = load_runs(study)

    assert after[[*KEYS, "distance", "distance_text"]].isna().all(axis=None)
    # Old and new runs of a cell are repeats of one another.
    assert list(after["cell"]) == list(before["cell"])


def test_rows_have_the_mode_and_the_links_of_the_machine(study: Path) -> None:
    def slow_down(records: list[dict[str, Any]]) -> None:
        records[0]["monitor"]["pcie_generation"] = {"min": 1.0, "median": 1.0, "max": 4.0}
        records[1]["monitor"] = {}
        for record in records[2:]:
            # A link that idles between two batches is no slower one.
            record["monitor"]["pcie_generation"]["min"] = 1.0

    change(study / "results.json", slow_down)
    runs = load_runs(study)

    assert set(runs["env_numa_mode"]) == {"1 NUMA node per socket"}
    assert set(runs["pcie_link_max"]) == {"PCIe 5.0 x16"}  # also without a reading
    assert runs["pcie_link"].isna().sum() == 1
    assert runs["pcie_link"].value_counts().to_dict() == {
        "PCIe 5.0 x16": len(runs) - 2,
        "PCIe 4.0 x16": 1,
    }


def test_a_changed_mode_and_slower_links_are_reported(study: Path, tmp_path: Path) -> None:
    mode = "NPS2 (2 NUMA nodes per socket)"
    changes = {"numa_mode": mode, "gpu_links": {"0": "PCIe 4.0 x16"}}
    later = write_study(tmp_path, replace(again(small_study(one_gpu())), changes=changes))

    def slow_down(records: list[dict[str, Any]]) -> None:
        for record in records:
            for name in ("pcie_generation", "pcie_max_generation"):
                record["monitor"][name]["max"] = 4.0

    change(later / "results.json", slow_down)
    groups = difference_table(load_studies(tmp_path)).set_index("key")
    compared = compare_studies(load_runs(study), load_runs(later)).differences.set_index("key")

    assert set(groups.loc["numa_mode"]) == {"1 NUMA node per socket", mode}
    assert set(groups.loc["gpu_links.0"]) == {"PCIe 5.0 x16", "PCIe 4.0 x16"}
    assert list(compared.loc["env_numa_mode"]) == ["1 NUMA node per socket", mode]
    for key in ("pcie_link", "pcie_link_max"):
        assert list(compared.loc[key]) == ["PCIe 5.0 x16", "PCIe 4.0 x16"]
