"""What a bandwidth study's questions make of its runs: shares, series that are missing, figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis import load_runs
from numa_bench.analysis.questions.links.curves import format_size, plot_curves, tabulate_curves
from numa_bench.analysis.questions.links.latency import tabulate_latency
from numa_bench.analysis.questions.links.matrix import plot_matrix, tabulate_matrix
from numa_bench.analysis.questions.registry import load_questions
from numa_bench.analysis.read.nvbandwidth import read_nvbandwidth
from numa_bench.analysis.stats.compare.nvbandwidth import compare_nvbandwidth
from numa_bench.errors import ConfigError
from numa_bench.jsonio import write_json
from numa_bench.plan.plan import Plan
from numa_bench.records import Execution, RunResult, RunSpec, Status, make_record
from tests.machines import server

#: GB/s from the GPU's own node and from the other one.
RATES = {"local": 50.0, "remote": 30.0}


def result_of(run: RunSpec, rate: float) -> RunResult:
    series = [
        {"operation": "h2d", "size_bytes": size, "memory": "registered", "timed_by": "events",
         "gb_per_s": rate * share, "samples": [rate * share] * 3}
        for size, share in ((4096, 0.02), (1 << 30, 1.0))
    ]  # fmt: skip
    launch = {"operation": "launch", "size_bytes": None, "memory": None, "latency_us": 6.0,
              "samples": [6.0]}  # fmt: skip
    return RunResult(
        run.run_id,
        run.cell_hash(),
        "passed",
        metrics={"h2d_gb_per_s": rate, "d2h_gb_per_s": rate / 2, "duplex_gb_per_s": 1.5 * rate},
        series=[*series, launch],
    )


@pytest.fixture
def study(plan: Callable[..., Plan], tmp_path: Path) -> Path:
    """One GPU with a PCIe 5.0 x16 link, memory and CPUs of either node, three repeats."""
    planned = plan(server(), "experiment=bandwidth_study", "experiment.hardware.gpu_ids=[0]")
    link = {"median": 5.0, "min": 5.0, "max": 5.0}, {"median": 16.0, "min": 16.0, "max": 16.0}
    execution = Execution(
        Status.PASSED, 0, None, "2026-01-31T14:30:15.000+00:00", 9.0, 1, "out", "err",
        monitor=dict(zip(("pcie_max_generation", "pcie_max_width"), link, strict=True)),
    )  # fmt: skip
    records = []
    for run in planned.runs:
        near = run.placement.memory_nodes == (0,)
        noise = 1 + run.repeat / 1000
        result = result_of(run, RATES["local" if near else "remote"] * noise)
        write_json(tmp_path / "runs" / run.run_id / "result.json", result.to_dict())
        records.append(make_record(run, result, execution, "host"))
    write_json(tmp_path / "results.json", records)
    return tmp_path


def test_the_matrix_has_shares_of_the_one_way_link_and_the_distance_to_the_fastest(
    study: Path,
) -> None:
    table = tabulate_matrix(load_runs([study]))

    assert set(table["link"]) == {"PCIe 5.0 x16"}
    for row in table.to_dict("records"):
        near = row["memory_node"] == 0
        assert row["h2d_gb_per_s"] == pytest.approx(50.05 if near else 30.03)
        # 32 GT/s x 16 lanes x 128/130 / 8: 63.0 GB/s in each direction.
        assert row["h2d_share"] == pytest.approx(row["h2d_gb_per_s"] / 63.015, rel=1e-4)
        assert row["d2h_share"] == pytest.approx(row["h2d_share"] / 2)
        assert row["to_best"] == pytest.approx(0 if near else -0.4, abs=1e-3)
        assert row["low"] <= row["h2d_gb_per_s"] <= row["high"]
    figure = plot_matrix(table)
    assert figure is not None
    titles = [axes.get_title("left") for axes in figure.axes]
    assert [title.partition(": ")[2] for title in titles] == [
        "H2D, host to device",
        "D2H, device to host",
        "both at once",
    ]


def test_curves_come_from_the_results_of_the_runs(study: Path) -> None:
    table = tabulate_curves(load_runs([study]))

    assert set(table["n"]) == {3}
    near = table[table["memory_node"] == 0] if "memory_node" in table else table
    local = near[near["placement"] == "local"].set_index("size_bytes")["gb_per_s"]
    assert local.to_dict() == {4096: pytest.approx(1.001), 1 << 30: pytest.approx(50.05)}
    assert plot_curves(table) is not None


def test_a_missing_result_file_costs_its_points_and_not_the_page(study: Path) -> None:
    frame = load_runs([study])
    lost = frame["run_id"].iloc[0]
    (study / "runs" / lost / "result.json").unlink()

    table = tabulate_curves(frame)
    cell = frame["cell"].iloc[0]
    assert set(table.loc[table["cell"] == cell, "n"]) == {2}
    assert len(tabulate_matrix(frame)) == frame["cell"].nunique()


def test_latencies_without_size_and_memory_have_a_row(study: Path) -> None:
    table = tabulate_latency(load_runs([study]))

    assert set(table["operation_text"]) == {"kernel launch"}
    assert set(table["latency_us"]) == {6.0}


def test_pipeline_questions_are_silent_about_bandwidth_studies(study: Path) -> None:
    frame = load_runs([study])

    asked = {k for k, q in load_questions().items() if not q.make_table(frame).empty}
    assert asked == {"link_matrix", "link_curves", "link_latency"}


def test_studies_of_other_sizes_are_other_settings(study: Path) -> None:
    frame = load_runs([study])
    records = json.loads((study / "results.json").read_text())
    for record in records:
        record["workload_config"]["sizes_bytes"] = [4096]
    write_json(study / "results.json", records)

    assert set(load_runs([study])["cell"]).isdisjoint(frame["cell"])


def nvbandwidth_file(path: Path, **tests: object) -> Path:
    cases = [
        {"name": name, "status": "Passed", "bandwidth_matrix": [values]}
        for name, values in tests.items()
    ]
    path.write_text(json.dumps({"nvbandwidth": {"version": "v0.8", "testcases": cases}}))
    return path


def test_nvbandwidth_is_set_beside_local(study: Path, tmp_path: Path) -> None:
    path = nvbandwidth_file(
        tmp_path / "nv.json",
        host_to_device_memcpy_ce=["55.0", "N/A"],
        host_to_device_bidirectional_memcpy_ce=["40", "40"],
        device_to_host_bidirectional_memcpy_ce=["35", "35"],
        device_to_device_memcpy_read_ce=["300", "300"],
    )

    table = compare_nvbandwidth(load_runs([study]), read_nvbandwidth(str(path)))

    found = {row["copies"]: row for row in table.to_dict("records")}
    assert set(found) == {"H2D", "both at once"}
    assert found["H2D"]["difference"] == pytest.approx(50.05 / 55 - 1)
    assert found["both at once"]["nvbandwidth"] == 75.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "cannot be read"),
        ("[]", "has no figures of host_to_device_memcpy_ce"),
        ('{"nvbandwidth": {"testcases": [{"name": "x"}]}}', "has no figures"),
        ('{"nvbandwidth": {"error": "no device"}}', "has no figures"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "nv.json"
    path.write_text(content)

    with pytest.raises(ConfigError, match=message):
        read_nvbandwidth(str(path))


def test_sizes_in_words() -> None:
    assert [format_size(n) for n in (64, 4096, 1 << 30)] == [
        "64\u202fB",
        "4\u202fKiB",
        "1\u202fGiB",
    ]


def test_nothing_to_show_without_bandwidth_runs() -> None:
    assert tabulate_matrix(pd.DataFrame()).empty
    assert tabulate_curves(pd.DataFrame()).empty
