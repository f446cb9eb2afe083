"""What the page says of NUMA mode and GPU links."""

from __future__ import annotations

from typing import Any

import pandas as pd

from numa_bench.analysis.report.machine import list_machine_facts
from numa_bench.analysis.report.tables import cells_table, effects_table
from tests.analyses import analysed

MAX = "PCIe 5.0 x16"


def runs(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {"host": "a", "env_numa_mode": None, "gpu_id": 0, "pcie_link": MAX, "pcie_link_max": MAX}
    frame = pd.DataFrame([{**base, **row} for row in rows])
    return frame.assign(gpu_id=frame["gpu_id"].astype("Int64"))


def test_gpus_at_their_maximum_share_a_sentence() -> None:
    mode = "NPS4 (4 NUMA nodes per socket)"
    frame = runs(*({"gpu_id": i, "env_numa_mode": mode} for i in (0, 1, 2, 5)))

    assert list_machine_facts(frame) == [f"NUMA mode: {mode}.", f"GPUs 0-2,5: {MAX} under load."]


def test_a_gpu_below_its_maximum_is_named() -> None:
    frame = runs({}, {"gpu_id": 3}, {"gpu_id": 3, "pcie_link": "PCIe 4.0 x16"})

    fine, slow = list_machine_facts(frame)

    assert fine == f"GPU 0: {MAX} under load."
    assert slow.startswith(f"GPU 3 ran below its maximum link ({MAX}): PCIe 4.0 x16 in 1 of 2 runs")


def test_links_that_were_not_read_are_not_called_full() -> None:
    assert list_machine_facts(runs({"pcie_link": None})) == [
        f"GPU 0: {MAX} at most; the link under load was not read."
    ]


def test_hosts_are_named_if_there_are_several() -> None:
    frame = runs({"env_numa_mode": "x"}, {"host": "b", "pcie_link_max": None})

    assert list_machine_facts(frame) == ["a: NUMA mode: x.", f"a: GPU 0: {MAX} under load."]


def test_nothing_is_said_of_what_is_unknown() -> None:
    assert list_machine_facts(pd.DataFrame()) == []
    unknown = runs({"gpu_id": None, "pcie_link": None, "pcie_link_max": None})
    assert list_machine_facts(unknown) == []


def test_tables_have_a_column_of_distances_where_they_are_known() -> None:
    analysis = analysed("one_gpu")
    tables = (
        cells_table(analysis.cells, analysis.latency, ""),
        effects_table(analysis.effects, {}, ""),
    )
    for table in tables:
        at = [column.label for column in table.columns].index("distance")
        assert "other socket (distance 21)" in {row[at].text for row in table.rows}

    unknown = analysis.effects.assign(distance_text=None)
    assert "distance" not in [c.label for c in effects_table(unknown, {}, "").columns]
