"""What GPU runs add to records, from table to page: stages alone, the host's time, marks, gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from numa_bench.analysis.questions.bandwidth import plot_bandwidth, tabulate_bandwidth
from numa_bench.analysis.questions.batch import plot_batch_sizes, tabulate_batch_sizes
from numa_bench.analysis.questions.limits import plot_limits, tabulate_limits
from numa_bench.analysis.questions.points import tabulate_points
from numa_bench.analysis.questions.scaling import tabulate_scaling
from numa_bench.analysis.read.runs import load_runs, load_studies
from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.study_analysis import Analysis, analyse_study
from numa_bench.tracking.base import StudyView
from numa_bench.tracking.view import read_study
from tests.fake_pipeline import Machine
from tests.fake_scenarios import experiment, models, one_gpu
from tests.fake_study import Scenario, write_study

pytestmark = pytest.mark.slow

Change = Callable[[dict[str, Any]], None]


def write(root: Path, machine: Machine, vits: list[Any], **changes: Any) -> Path:
    study = experiment("cuda_study", vits, repeats=3)
    return write_study(root, Scenario(machine, study, raw=0, **changes))


def change_records(study: Path, change: Change) -> None:
    """Edit every record of a study."""
    path = study / "results.json"
    records = json.loads(path.read_text())
    for record in records:
        change(record)
    path.write_text(json.dumps(records))


def analysed(study: Path) -> Analysis:
    return analyse_study(
        "cuda_study",
        load_studies([study]),
        profiles=pd.DataFrame(),
        target=0.02,
        seed=0,
        created="2026-01-31T15:00:00+00:00",
        command="",
    )


def page_of(analysis: Analysis, directory: Path, pictures: bool = False) -> str:
    if pictures:
        return write_report(analysis, directory).page.read_text(encoding="utf-8")
    with mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())):
        return write_report(analysis, directory).page.read_text(encoding="utf-8")


def view_study(study: Path) -> StudyView:
    """The study as trackers get it."""
    return read_study(study, points=0, max_file_mb=0)


SLOW_HOST = Machine(one_gpu(), host_ms=0.4)
LIGHT_AND_HEAVY = models((32, 0, 512), (32, 12, 1024))


def test_a_light_model_is_bound_by_a_slow_host_and_a_heavy_one_by_compute(tmp_path: Path) -> None:
    table = tabulate_limits(load_runs([write(tmp_path, SLOW_HOST, LIGHT_AND_HEAVY)]))

    bound = table.groupby("vit_name")["bound"].unique().map(list).to_dict()
    assert bound == {"vit32x0": ["host"], "vit32x12x1024": ["compute"]}
    light = table[table["vit_name"] == "vit32x0"]
    assert (light["host_submit_fraction"] > 0.9).all()
    assert (light["busiest_stage_fraction"] < 0.9).all()
    assert table["h2d_stretch"].to_numpy() == pytest.approx(1.3)
    assert table["compute_stretch"].to_numpy() == pytest.approx(1.0)
    fast = tabulate_points(load_runs([write(tmp_path / "b", Machine(one_gpu()), LIGHT_AND_HEAVY)]))
    assert set(fast["bound"]) == {"transfer", "compute"}


def test_a_host_bound_cell_is_visible_beside_its_throughput_and_in_the_verdict(
    tmp_path: Path,
) -> None:
    analysis = analysed(write(tmp_path, SLOW_HOST, LIGHT_AND_HEAVY))

    cells = analysis.cells.groupby("vit_name")["host_bound"].all().to_dict()
    assert cells == {"vit32x0": True, "vit32x12x1024": False}
    (verdict,) = analysis.study_verdicts
    assert verdict.details[-1].startswith("2 of 4 cells are host bound (mark B)")
    page = page_of(analysis, tmp_path / "report", pictures=True)
    for text in (
        "What limits throughput: link, host or compute?",
        "<td>host bound</td>",
        "<td>host</td>",
        "H2D, pipelined (ms)",
        "the GPU waited for the host; raise batch_size, or compile the model",
        "ringed, mark B",
    ):
        assert text in page
    figure = plot_limits(analysis.questions["limits"])
    assert figure is not None
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "share of the timed window (%)",
        "time in the pipeline over time by itself (ratio)",
    ]


def test_a_series_turns_from_host_to_compute(tmp_path: Path) -> None:
    vits = models(*((32, depth, 512) for depth in (1, 2, 8, 24)))
    table = tabulate_scaling(load_runs([write(tmp_path, SLOW_HOST, vits)]))

    local = table[table["placement"] == "local"].sort_values("depth")
    assert list(dict.fromkeys(local["bound"])) == ["host", "compute"]
    (turns,) = set(local["turns"])
    assert turns.startswith("host bound up to depth ")
    assert ", compute bound from " in turns


def without_times_alone(record: dict[str, Any]) -> None:
    """As records were before stages were also timed by themselves."""
    for name in ("h2d_pipelined_ms", "compute_pipelined_ms", "d2h_pipelined_ms"):
        del record[name]
    del record["host_submit_fraction"]
    for name in ("attention", "cuda_graph", "min_timed_s", "min_warmup_s"):
        del record["test_config"][name]


def test_copies_that_shared_the_link_are_no_share_of_it(tmp_path: Path) -> None:
    study = write(tmp_path, Machine(one_gpu()), models((32, 0, 512)))
    new = tabulate_bandwidth(load_runs([study]))
    assert set(new["copies"]) == {"one way"}
    assert new["h2d_share"].between(0.5, 0.9).all()

    change_records(study, without_times_alone)
    old = tabulate_bandwidth(load_runs([study]))

    assert set(old["copies"]) == {"both ways at once"}
    assert old["h2d_gb_per_s"].to_numpy() == pytest.approx(new["h2d_gb_per_s"].to_numpy())
    assert old[["h2d_share", "d2h_share"]].isna().all(axis=None)
    figure = plot_bandwidth(old)
    assert figure is not None
    assert figure.get_suptitle() == "Copy bandwidth while both directions were busy"
    assert not [t for axes in figure.axes for t in axes.texts if "%" in t.get_text()]
    assert tabulate_limits(load_runs([study])).empty


def test_old_copies_with_one_slot_were_one_way(tmp_path: Path) -> None:
    study = write(tmp_path, Machine(one_gpu()), models((32, 0, 512), pipeline_depth=1))
    change_records(study, without_times_alone)

    assert set(tabulate_bandwidth(load_runs([study]))["copies"]) == {"one way"}


def test_runs_of_a_cuda_graph_have_no_latency_and_say_so(tmp_path: Path) -> None:
    study = write(tmp_path, Machine(one_gpu()), models((32, 6, 512), cuda_graph=True))
    analysis = analysed(study)

    assert analysis.latency["n"].eq(0).all()
    assert analysis.latency_effects.empty
    page = page_of(analysis, tmp_path / "report", pictures=True)
    assert "The latency of any run was not timed" in page
    assert '<td class="n" data-v="">not timed</td>' in page
    assert ">nan<" not in page.lower()
    assert not (tmp_path / "report" / "plots" / "latency.png").exists()
    assert set(tabulate_bandwidth(analysis.loaded.frame)["copies"]) == {"one way"}


def test_runs_with_and_without_a_graph_are_never_pooled_and_are_named(tmp_path: Path) -> None:
    vits = [
        vit
        for graph in (False, True)
        for size in (4, 32)
        for vit in models((32, 4, 256), cuda_graph=graph, batch_size=size)
    ]
    study = write(tmp_path, Machine(one_gpu()), vits)
    analysis = analysed(study)
    table = tabulate_batch_sizes(analysis.loaded.frame)

    assert set(analysis.cells["n"]) == {3}
    assert set(table["variant_text"]) == {
        "vit32x4x256 cuda_graph=False",
        "vit32x4x256 cuda_graph=True",
    }
    figure = plot_batch_sizes(table)
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert [title.partition("\n")[0] for title in titles] == sorted(set(table["variant_text"]))
    page = page_of(analysis, tmp_path / "report", pictures=True)
    assert "The latency of 12 of 24 runs was not timed" in page


def test_studies_that_differ_in_attention_are_named_apart(tmp_path: Path) -> None:
    for attention in ("explicit", "sdpa"):
        vits = models((32, 4, 256), attention=attention)
        write(tmp_path / attention, Machine(one_gpu()), vits)
    runs = load_runs([tmp_path / "explicit", tmp_path / "sdpa"])

    assert set(runs["model_text"]) == {
        "vit32x4x256 attention=explicit",
        "vit32x4x256 attention=sdpa",
    }
    assert runs.groupby("setting")["test_attention"].nunique().eq(1).all()


def test_records_of_before_a_setting_are_of_its_old_behaviour(tmp_path: Path) -> None:
    study = write(tmp_path, Machine(one_gpu()), models((32, 4, 256)))
    change_records(study, without_times_alone)
    runs = load_runs([study])

    assert set(runs["test_attention"]) == {"explicit"}
    assert set(runs["test_cuda_graph"]) == {False}
    assert set(runs["test_min_timed_s"]) == set(runs["test_min_warmup_s"]) == {0.0}
    assert set(runs["model_text"]) == {"vit32x4x256"}


def test_a_run_without_a_reading_in_its_window_has_a_mark_and_no_figures(tmp_path: Path) -> None:
    def silence(record: dict[str, Any]) -> None:
        if record["repeat"] == 0:
            record["monitor"] = None
            record["warnings"] = ["no_reading: no sensor was read inside the timed window"]

    study = write(tmp_path, Machine(one_gpu()), models((32, 4, 256)))
    change_records(study, silence)
    analysis = analysed(study)

    page = page_of(analysis, tmp_path / "report", pictures=True)
    assert "no_reading: no sensor was read inside the timed window" in page
    frame = analysis.loaded.frame
    silent = frame["repeat"] == 0
    assert set(frame.loc[silent, "marks"]) == {"E"}
    assert frame.loc[silent, "monitor_sm_mhz_median"].isna().all()
    assert frame.loc[~silent, "monitor_sm_mhz_median"].notna().all()
