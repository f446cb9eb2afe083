"""From Hydra's node to the configuration: GPU lists, directories, the machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.loading import discover_machine, save_resolved
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError, UnknownKeyError
from numa_bench.plan.plan import Plan
from numa_bench.study_files import RESOLVED_CONFIG
from tests.fake_sysfs import FakeNode, build_tree
from tests.machines import server

Plans = Callable[..., Plan]
Loads = Callable[..., RunnerConfig]
Composes = Callable[..., DictConfig]


@pytest.mark.slow
@pytest.mark.parametrize(
    "override", ["+typo=1", "+experiment.typo=1", "++experiment.test.typo=1", "+output.typo=1"]
)
def test_an_added_key_is_unknown(load: Loads, override: str) -> None:
    """`slots=True` is what refuses it: Hydra itself lets `+` through."""
    with pytest.raises(UnknownKeyError) as refused:
        load(override)

    assert str(refused.value) == override.lstrip("+").removesuffix("=1")


@pytest.mark.parametrize("value", ["0,1", "[0, 1]"])
def test_cuda_visible_devices_as_gpu_ids(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    ids = "experiment.hardware.gpu_ids=${oc.env:CUDA_VISIBLE_DEVICES,[0,1,2,3]}"

    def gpus() -> set[int | None]:
        return {cell.device.gpu_id for cell in plan(server(), ids).cells}

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus() == {0, 1}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == {None}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus() == {0, 1, 2, 3}


@pytest.mark.parametrize(("count", "wanted"), [(0, {0}), (2, {0}), (3, {0, 2}), (8, {0, 2})])
def test_gpu_ids_by_the_number_of_gpus(
    plan: Plans, monkeypatch: pytest.MonkeyPatch, count: int, wanted: set[int]
) -> None:
    monkeypatch.setattr("numa_bench.config.hydra.app._gpu_count", lambda: count)

    planned = plan(server(), "experiment.hardware.gpu_ids=${if_gpu_count_gt_2:[0,2],[0]}")

    assert {cell.device.gpu_id for cell in planned.cells} == wanted


def test_the_gpu_count_is_that_of_this_process(
    compose_node: Composes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numa_bench.machine.topology.discover_topology", server)
    node = compose_node("experiment.max_gpus=${gpu_count:}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert node.experiment.max_gpus == 8
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert node.experiment.max_gpus == 2


def test_a_captured_server_counts_only_gpus_that_torch_can_use(tmp_path: Path) -> None:
    """Its VGA comes first in PCI order, and nvidia-smi would not count it."""
    from tests.fake_sysfs import FakeGpu

    vga = FakeGpu("0000:03:00.0", numa_node=0, vendor="0x1a03", pci_class="0x030000")
    gpu = FakeGpu("0000:1b:00.0", numa_node=0)
    build_tree(tmp_path, [FakeNode(0, "0-3")], [vga, gpu])

    topology, visible = discover_machine(str(tmp_path))

    assert [(g.index, g.pci_address) for g in visible] == [(0, "0000:1b:00.0")]
    assert topology.gpus == visible


def test_a_tree_that_is_none_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        discover_machine(str(tmp_path / "nothing"))

    assert refused.value.key == "topology_root"


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ((), r"outputs/multirun/quick_test/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"),
        (("debug=true",), "outputs/debug"),
        (("dry_run=true", "output.root=x"), "x/dry_run"),
    ],
)
def test_where_a_sweep_goes(
    compose_node: Composes, overrides: tuple[str, ...], wanted: str
) -> None:
    node = compose_node("experiment=quick_test", *overrides)

    assert re.fullmatch(wanted, node.hydra.sweep.dir)


def test_schemas_can_be_saved_and_read_again(load: Loads, tmp_path: Path) -> None:
    config = load("experiment=compile_study", "experiment.hardware.gpu_ids=[0,1]")
    save_resolved(config, tmp_path)

    saved = OmegaConf.load(tmp_path / RESOLVED_CONFIG)
    again = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunnerConfig), saved))

    assert again == config
