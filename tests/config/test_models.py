"""Entries of vit_configs that are no ViTs: what is refused, and what is planned."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.config.validation import check_experiment
from numa_bench.errors import ConfigError
from numa_bench.plan.plan import Plan
from numa_bench.plan.resolve import resolve_vit
from numa_bench.records import RunSpec
from numa_bench.records.workload import input_shape
from tests.conftest import Outcome
from tests.machines import laptop
from tests.specs import overridden

Plans = Callable[..., Plan]
Runner = Callable[..., Outcome]
ENTRY = "experiment.vit_configs[0]"

BAD = [
    ({"_target_": "a.b", "timm": "x"}, "timm=x", "remove one of the two"),
    ({"_target_": "make_net"}, "_target_=make_net", "module.function"),
    ({"_target_": "pkg.make net"}, "_target_=pkg.make net", "module.function"),
    ({"_target_": "pkg..x"}, "_target_=pkg..x", "module.function"),
    ({"timm": "hf-hub:a/b"}, "timm=hf-hub:a/b", "nothing is downloaded"),
    ({"args": {"a": 1}}, "args=", "_target_ or timm"),
    ({"input_shape": [3, 8, 8]}, "input_shape=[3,8,8]", "_target_ or timm"),
    ({"_target_": "a.b", "depth": 0}, "depth=0", "_target_ is set"),
    ({"timm": "x", "dim": 64}, "dim=64", "timm is set"),
    ({"_target_": "a.b", "heads": 4}, "heads=4", "_target_ is set"),
    ({"_target_": "a.b", "args": [1]}, "args=[1]", "mapping"),
    ({"_target_": "a.b", "args": {1: 2}}, "args=", "mapping"),
    ({"_target_": "a.b", "args": {"x": math.inf}}, "args=", "finite numbers"),
    ({"_target_": "a.b", "args": {"x": Path("/")}}, "args=", "only texts"),
    ({"timm": "x", "args": {"pretrained": True}}, "args.pretrained=true", "weights are random"),
    ({"_target_": "a.b", "input_shape": [3, 8]}, "input_shape=[3,8]", "[C,H,W]"),
    ({"_target_": "a.b", "input_shape": [3, 8, 0]}, "input_shape=[3,8,0]", "[C,H,W]"),
    ({"_target_": "a.b", "input_shape": [3, 8, True]}, "input_shape=[3,8,true]", "[C,H,W]"),
    ({"_target_": "a.b", "input_shape": 3}, "input_shape=3", "[C,H,W]"),
    (
        {"_target_": "a.b", "input_shape": [3, 8, 8], **overridden(image_size=8)},
        "image_size=8",
        "input_shape is set too",
    ),
    ({"_target_": "a.b", **overridden(attention="sdpa")}, "attention=sdpa", "for ViTs"),
    ({"_target_": "a.b", **overridden(batch_size=0)}, "batch_size=0", "at least 1"),
    ({"_target_": "a.b", "name": "a/b"}, "name=a/b", "letters"),
]


@pytest.mark.parametrize(("changes", "shown", "fix"), BAD)
def test_an_impossible_model_is_refused(changes: dict[str, Any], shown: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_experiment(ExperimentConfig(name="study", vit_configs=[ViTConfig(**changes)]))

    assert str(refused.value).startswith(f"{ENTRY}.{shown}")
    assert fix in refused.value.fix


def test_attention_of_the_experiment_is_refused_for_a_model_that_is_no_vit() -> None:
    """It would be recorded and have no effect."""
    study = ExperimentConfig(
        name="study", vit_configs=[ViTConfig(timm="x")], test=TestConfig(attention="sdpa")
    )
    with pytest.raises(ConfigError, match=r"attention=sdpa: is for ViTs"):
        check_experiment(study)


@pytest.mark.parametrize(
    ("vit", "name"),
    [
        (ViTConfig(_target_="torchvision.models.resnet50"), "resnet50"),
        (ViTConfig(_target_="pkg.Net._make_net"), "make_net"),
        (ViTConfig(_target_="pkg.fn", args={"width": 8, "act": "re/lu"}), "fn-width8-actre_lu"),
        (ViTConfig(timm="vit_tiny_patch16_224.augreg"), "vit_tiny_patch16_224.augreg"),
        (ViTConfig(timm="resnet18", args={"num_classes": 10}), "resnet18-num_classes10"),
        (ViTConfig(timm="resnet18", name="mine"), "mine"),
        (ViTConfig(_target_="a.b", args={"x": "y" * 99}), "b-x" + "y" * 57),
        (ViTConfig(_target_="módulo.ñ"), "model"),
    ],
)  # fmt: skip
def test_a_name_is_derived(vit: ViTConfig, name: str) -> None:
    check_experiment(ExperimentConfig(name="study", vit_configs=[vit]))
    assert resolve_vit(vit).name == name


def test_a_model_is_planned_with_its_own_input(plan: Plans) -> None:
    (cell,) = plan(
        laptop(),
        "experiment.vit_configs=[{_target_: pkg.fn, input_shape: [1,32,48], args: {a: {b: [1]}}}]",
        "experiment.test.batch_size=4",
        "experiment.hardware.gpu_ids=[]",
    ).cells

    assert cell.vit.target == "pkg.fn"
    assert cell.vit.args == {"a": {"b": [1]}}
    assert (cell.vit.depth, cell.vit.dim, cell.vit.patch_size) == (None, None, None)
    assert input_shape(cell) == (4, 1, 32, 48)
    assert (cell.test.channels, cell.test.image_size) == (1, 32)
    assert RunSpec.from_dict(cell.to_dict()) == cell


def test_without_a_shape_the_input_is_the_image_of_the_test_settings(plan: Plans) -> None:
    cells = plan(
        laptop(),
        "experiment.vit_configs=[{timm: resnet18}]",
        "experiment.test.image_size=64",
        "experiment.test.channels=1",
    ).cells

    assert {input_shape(cell)[1:] for cell in cells} == {(1, 64, 64)}


def test_args_distinguish_two_models(plan: Plans) -> None:
    entries = ", ".join(
        f"{{_target_: pkg.fn, name: net, args: {{width: {width}}}}}" for width in (8, 16)
    )
    runs = plan(laptop(), f"experiment.vit_configs=[{entries}]", "experiment.repeats=1").runs

    assert len({run.run_id for run in runs}) == len(runs) == 2 * len({r.placement for r in runs})
    assert all("_net_" in run.run_id for run in runs)


def test_a_model_that_is_listed_twice_is_refused(plan: Plans) -> None:
    same = "{_target_: pkg.fn, args: {width: 8}}"
    with pytest.raises(ConfigError, match="is listed twice"):
        plan(laptop(), f"experiment.vit_configs=[{same}, {same}]")


def test_a_dry_run_imports_nothing_of_the_user(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("open('imported', 'w').close()\n")
    entry = "{_target_: mine.make_net, input_shape: [3,32,32], args: {width: 8}}"

    ended = runner("dry_run=true", f"experiment.vit_configs=[{entry}]")

    assert ended.code == 0, ended.stderr
    assert "make_net-width8" in ended.stdout
    assert not (tmp_path / "imported").exists()
    assert "mine" not in sys.modules


@pytest.mark.slow
def test_a_sweep_over_args_plans_each_value(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    ended = runner(
        "-m",
        "experiment.vit_configs=[{_target_: mine.fn, args: {width: 1}}]",
        "++experiment.vit_configs[0].args.width=8,16",
    )

    assert ended.code == 0, ended.stderr
    widths = [{cell.vit.args["width"] for cell in study.cells} for study in ended.studies]
    assert widths == [{8}, {16}]


def test_an_entry_of_a_file_gets_a_target_on_the_command_line(
    runner: Runner, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").touch()
    ended = runner(
        "experiment.vit_configs=[{name: net}]",
        f"{ENTRY}._target_=mine.fn",
        f"++{ENTRY}.args={{width: 3}}",
    )

    assert ended.code == 0, ended.stderr
    assert {(c.vit.target, c.vit.args["width"]) for c in ended.studies[0].cells} == {("mine.fn", 3)}


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (
            ["experiment.vit_configs=[{_target_: no_such_package.fn}]"],
            f"{ENTRY}._target_=no_such_package.fn: there is no module no_such_package; install it, "
            "run in its directory, or put that on PYTHONPATH",
        ),
        (
            ["experiment.vit_configs=[{timm: resnet18}]"],
            f"{ENTRY}.timm=resnet18: timm is not installed; pip install timm",
        ),
        (
            ["experiment=quick_test", f"{ENTRY}._target_=mine.fn", f"{ENTRY}.args.width=3"],
            f"{ENTRY}.args.width=3: not among the model's args yet; to add it, write "
            f"++{ENTRY}.args.width=3",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, overrides: list[str], error: str
) -> None:
    monkeypatch.setattr(
        "numa_bench.config.model_validation.importlib.util.find_spec", lambda _: None
    )
    ended = runner(*overrides)

    assert (ended.code, ended.studies) == (2, [])
    assert ended.error == error
