"""The tables of the questions, and the arithmetic behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from numa_bench.analysis.plots.runs import plot_stages
from numa_bench.analysis.plots.shape import Part
from numa_bench.analysis.questions.bandwidth import tabulate_bandwidth
from numa_bench.analysis.questions.batch import tabulate_batch_sizes
from numa_bench.analysis.questions.compilation import compute_break_even, tabulate_compilation
from numa_bench.analysis.questions.limits import tabulate_limits
from numa_bench.analysis.questions.pipeline import tabulate_pipeline_depths
from numa_bench.analysis.questions.points import tabulate_points
from numa_bench.analysis.questions.resolution import tabulate_resolutions
from numa_bench.analysis.questions.scaling import tabulate_scaling
from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.tables import cell_table
from numa_bench.records import VitSpec
from numa_bench.records.workload import vit_flop
from numa_bench.worker.models import build_model
from tests.fake_pipeline import Machine, Noise
from tests.fake_scenarios import experiment, models, one_gpu, write_kind
from tests.fake_study import Scenario, write_study
from tests.specs import make_spec

ALL = (
    tabulate_compilation,
    tabulate_scaling,
    tabulate_batch_sizes,
    tabulate_resolutions,
    tabulate_pipeline_depths,
    tabulate_bandwidth,
)


@pytest.mark.parametrize(
    "vit",
    [VitSpec("a", 16, 2, 64, 2, 32, 128), VitSpec("b", 32, 3, 96, 4, 64, 200)],
    ids=["plain", "wide heads"],
)
def test_the_flop_count_is_that_of_the_model(vit: VitSpec) -> None:
    spec = make_spec(vit=vit)
    model = build_model(spec, torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert vit_flop(image_size=64, channels=3, **vit.sizes()) == counter.get_total_flops()


def test_pure_transfer_computes_nothing() -> None:
    sizes = dict.fromkeys(("dim", "heads", "dim_head", "mlp_dim"), 0)
    assert vit_flop(image_size=64, channels=3, patch_size=32, depth=0, **sizes) == 0


@pytest.mark.parametrize(
    ("kind", "table"), [("one_cell", t) for t in ALL[:-1]] + [("laptop", t) for t in ALL]
)
def test_a_study_that_does_not_vary_the_setting_gets_an_empty_table(
    tmp_path: Path, kind: str, table: object
) -> None:
    write_kind(tmp_path, kind)
    runs = load_runs(tmp_path)
    assert callable(table)
    assert table(runs).empty
    assert table(runs.iloc[:0]).empty


def test_break_even_is_where_saved_time_equals_compile_time(tmp_path: Path) -> None:
    write_kind(tmp_path, "compile")
    table = tabulate_compilation(load_runs(tmp_path))
    assert set(table["compile_mode"]) == {"default", "reduce-overhead", "max-autotune"}
    assert table["speedup"].to_numpy() == pytest.approx(1.4, rel=0.06)
    assert (table["low"] < table["speedup"]).all()
    row = table.iloc[0]
    eager, compiled = row["eager_samples_per_s"], row["compiled_samples_per_s"]
    saved = row["break_even_samples"] / eager - row["break_even_samples"] / compiled
    assert saved == pytest.approx(row["compile_s"])
    assert row["text"].startswith("pays after ")


def test_a_compiled_model_that_is_not_faster_never_pays() -> None:
    assert compute_break_even(100.0, 200.0, 10.0) == pytest.approx(2000.0)
    assert np.isnan(compute_break_even(100.0, 100.0, 10.0))
    assert np.isnan(compute_break_even(100.0, 90.0, 10.0))


def test_scaling_has_a_series_for_depth_and_one_for_width(tmp_path: Path) -> None:
    write_kind(tmp_path, "scaling")
    table = tabulate_scaling(load_runs(tmp_path))
    local = table[table["placement"] == "local"].groupby("series")
    assert local["depth"].apply(list).to_dict()["depth at dim 512"] == [2, 4, 6, 8, 12]
    assert local["dim"].apply(list).to_dict()["dim at depth 6"] == [256, 512, 768, 1024]
    rate = table["gflop_per_sample"] * table["median_samples_per_s"] / 1e3
    assert table["tflop_per_s"].to_numpy() == pytest.approx(rate.to_numpy())
    assert table["copy_share"].between(0, 1).all()


def test_the_turn_from_transfer_bound_to_compute_bound_is_found(tmp_path: Path) -> None:
    sizes = [(32, depth, 512) for depth in (1, 2, 4, 8)]
    machine = Machine(one_gpu(), link_gb_per_s=30)
    noise = Noise(0.0, 0.0, 0.0)
    scenario = Scenario(machine, experiment("turn", models(*sizes)), noise=noise, raw=0)
    table = tabulate_scaling(load_runs([write_study(tmp_path, scenario)]))
    local = table[table["placement"] == "local"].sort_values("depth")
    assert local["bound"].tolist() == ["transfer", "transfer", "compute", "compute"]
    assert set(local["turns"]) == {"transfer bound up to depth 2, compute bound from 4"}


@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        ("batch", "batch_size", [4, 8, 16, 32]),
        ("resolution", "image_size", [256, 512, 1024]),
        ("pipeline", "pipeline_depth", [1, 2, 4, 8]),
    ],
)
def test_a_setting_is_followed_in_every_placement(
    tmp_path: Path, kind: str, column: str, values: list[int]
) -> None:
    write_kind(tmp_path, kind)
    runs = load_runs(tmp_path)
    tables = {
        "batch": tabulate_batch_sizes(runs),
        "resolution": tabulate_resolutions(runs),
        "pipeline": tabulate_pipeline_depths(runs),
    }
    table = tables.pop(kind)
    assert table.groupby("placement")[column].apply(list).to_dict() == {
        "local": values,
        "remote": values,
    }
    assert all(other.empty for other in tables.values())


def test_a_larger_image_may_have_a_smaller_batch(tmp_path: Path) -> None:
    study = experiment("r", models((32, 4, 256), image_size=256))
    large = replace(study.vit_configs[0], image_size=512, batch_size=1)
    study = replace(study, vit_configs=[*study.vit_configs, large])
    path = write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))
    table = tabulate_resolutions(load_runs([path]))
    assert table.groupby("placement")["batch_size"].apply(list)["local"] == [8, 1]


@pytest.mark.slow
def test_bandwidth_is_a_matrix_of_gpus_and_nodes_against_the_link(tmp_path: Path) -> None:
    write_kind(tmp_path, "server8")
    runs = load_runs(tmp_path)
    table = tabulate_bandwidth(runs)
    assert len(table) == 8 * 4
    assert set(table["vit_name"]) == {"vit32x0"}
    assert table["link"].eq("PCIe 5.0 x16").all()
    assert table["link_gb_per_s"].to_numpy() == pytest.approx(32 * 16 / 8 * 128 / 130)
    local = table[table["placement"] == "local"]
    assert local["h2d_gb_per_s"].to_numpy() == pytest.approx(50, rel=0.05)
    assert table["h2d_share"].between(0.5, 0.9).all()
    unknown = runs.drop(columns=[c for c in runs if str(c).startswith("monitor_pcie")])
    assert tabulate_bandwidth(unknown)["link_gb_per_s"].isna().all()


def add_host_work(path: Path, host_ms: float) -> None:
    """Make the runs of a study runs with host work of this length."""
    results = path / "results.json"
    records = json.loads(results.read_text())
    for record in records:
        record["test_config"]["host_work"] = "decode"
        record |= {"host_ms": host_ms, "host_pipelined_ms": 1.5 * host_ms}
        record["host_wait_fraction"] = 0.75
    results.write_text(json.dumps(records))


@pytest.mark.parametrize(("host_ms", "bound"), [(1e3, "host work"), (1e-6, "compute")])
def test_host_work_is_a_stage_that_may_limit(tmp_path: Path, host_ms: float, bound: str) -> None:
    study = experiment("h", models((32, 12, 1024)))
    path = write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))
    add_host_work(path, host_ms)
    table = tabulate_limits(load_runs([path]))

    assert set(table["bound"]) == {bound}
    assert table["host_stretch"].to_numpy() == pytest.approx(1.5)
    assert set(table["host_wait_fraction"]) == {0.75}


def test_the_breakdown_shows_host_work_where_there_is_any(tmp_path: Path) -> None:
    study = experiment("h", models((32, 12, 1024)))
    path = write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))
    legends = []
    for host_ms in (None, 2.0):
        if host_ms is not None:
            add_host_work(path, host_ms)
        frame = load_runs([path])
        cells = cell_table(frame)
        none = pd.DataFrame()
        part = Part(frame=frame, cells=cells, latency=none, effects=none, pooled=none, target=0.02)
        figure = plot_stages(part)
        assert figure is not None
        legends.append([text.get_text() for text in figure.legends[0].get_texts()])

    assert legends[0] == ["H2D copy", "compute", "D2H copy", legends[0][-1]]
    assert legends[1] == ["host work", *legends[0]]


def test_studies_of_before_host_work_are_studies_without(tmp_path: Path) -> None:
    study = experiment("h", models((32, 12, 1024)))
    path = write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))
    results = path / "results.json"
    records = json.loads(results.read_text())
    for record in records:
        for name in ("host_work", "host_threads", "host_memory"):
            del record["test_config"][name]
    results.write_text(json.dumps(records))

    assert set(load_runs([path])["test_host_work"]) == {"none"}


def test_what_was_predicted_is_beside_what_was_measured(tmp_path: Path) -> None:
    study = experiment("predicted", models((32, 0, 64), (16, 8, 768)))
    path = write_study(tmp_path, Scenario(Machine(one_gpu()), study, raw=0))

    table = tabulate_points(load_runs([path]))

    found = table.groupby("vit_name")["predicted_bound"].unique().str.join(",").to_dict()
    assert found == {"vit32x0": "transfer", "vit16x8x768": "compute"}
