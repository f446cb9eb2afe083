"""The analysis of models that are no ViTs, which have FLOP but no sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.questions.points import tabulate_points
from numa_bench.analysis.questions.resolution import tabulate_resolutions
from numa_bench.analysis.questions.scaling import tabulate_scaling
from numa_bench.analysis.read.runs import load_runs
from numa_bench.config.schemas.workload import ViTConfig
from tests.analyses import CUSTOM, TWO, analysed, reported, scenario
from tests.fake_pipeline import CUSTOM_FLOP
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study


@pytest.fixture
def mixed(tmp_path: Path) -> pd.DataFrame:
    """Runs of two ViTs and of three models that are none."""
    study = replace(scenario("custom", one_gpu(), [*models(*TWO), *CUSTOM], 2), raw=0)
    return load_runs([write_study(tmp_path, study)])


def split_points(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points of the models called net, and of a ViT."""
    points = tabulate_points(runs)
    names = points["vit_name"]
    return points[names == "net"], points[names == "vit32x6x512"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["custom", "only_custom"])
def test_they_have_effects_and_verdicts_like_vits(kind: str) -> None:
    effects = analysed(kind).effects

    assert {"resnet18", 'net ({"width": 8} [3, 224, 224])'} <= set(effects["model_text"])
    assert (effects["ratio"] < 1).all()
    page = reported(kind).page.read_text()
    assert "resnet18" in page
    assert "&lt;NA&gt;" not in page


def test_models_of_one_name_are_distinguished_by_their_arguments(mixed: pd.DataFrame) -> None:
    assert set(mixed["model_text"]) == {
        "vit32x0",
        "vit32x6x512",
        'net ({"width": 8} [3, 224, 224])',
        'net ({"width": 16} [3, 224, 224])',
        "resnet18",
    }


def test_their_flop_are_those_that_the_worker_counted(mixed: pd.DataFrame) -> None:
    nets, vits = split_points(mixed)

    assert set(nets["gflop_per_sample"]) == {CUSTOM_FLOP / 1e9}
    assert (nets["tflop_per_s"] > 0).all()
    assert nets["depth"].isna().all()
    assert set(vits["depth"]) == {6}


def test_flop_that_were_not_counted_are_unknown(mixed: pd.DataFrame) -> None:
    nets, vits = split_points(mixed.assign(flop_per_sample=float("nan")))

    assert nets["gflop_per_sample"].isna().all()
    assert (vits["gflop_per_sample"] > 0).all()


def test_they_are_no_points_of_a_series_over_depth(tmp_path: Path) -> None:
    vits = [*models((32, 2, 256), (32, 4, 256)), *CUSTOM]
    runs = load_runs([write_study(tmp_path, scenario("scaling", one_gpu(), vits, 2))])

    assert set(tabulate_scaling(runs)["depth"]) == {2, 4}


def test_one_model_with_inputs_of_several_sizes_is_a_series_over_resolution(tmp_path: Path) -> None:
    sizes = [ViTConfig(_target_="a.b", input_shape=[3, side, side]) for side in (64, 128)]
    runs = load_runs([write_study(tmp_path, scenario("sizes", one_gpu(), sizes, 2))])

    assert set(tabulate_resolutions(runs)["image_size"]) == {64, 128}


def test_records_of_before_there_were_such_models_are_pooled_with_new_ones(tmp_path: Path) -> None:
    study = scenario("old", one_gpu(), models((32, 2, 128)), 2)
    new, old = (write_study(tmp_path, study, tmp_path / name) for name in ("new", "old"))
    records = json.loads((old / "results.json").read_text())
    for record in records:
        for name in ("target", "timm", "args", "input_shape"):
            del record["vit_config"][name]
        del record["flop_per_sample"]
    (old / "results.json").write_text(json.dumps(records))

    runs = load_runs([new, old])

    assert runs.groupby("placement_text")["cell"].nunique().eq(1).all()
