"""What a run needs of a device's memory, against torch's own allocations; batches that fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.bandwidth import make_bandwidth_specs
from numa_bench.plan.device_memory import (
    USABLE,
    count_peak_elements,
    estimate_device_bytes,
    fit_batch,
)
from numa_bench.plan.resolve import resolve_model, resolve_test, resolve_vit
from numa_bench.records import RunSpec, TestSpec, VitSpec
from numa_bench.worker.models.vit import build_vit
from tests.machines import server
from tests.specs import make_spec

GB = 1_000_000_000
LARGEST = ViTConfig(patch_size=16, depth=12, dim=1024)
FINE = ViTConfig(patch_size=8, depth=12, dim=1024)
WIDE = ViTConfig(patch_size=32, depth=2, dim=256, mlp_dim=8192)


class PeakOfElements(TorchDispatchMode):
    """The most elements that were alive together of what operations allocated."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.peak = 0
        self._own = StorageWeakRef(images.untyped_storage())
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            self._alive[StorageWeakRef(storage)] = storage.nbytes() // tensor.element_size()
        self._alive = {
            ref: n for ref, n in self._alive.items() if not (ref.expired() or ref == self._own)
        }
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def resolved(vit: ViTConfig, memory_bytes: int | None, **settings: Any) -> tuple[VitSpec, TestSpec]:
    experiment = ExperimentConfig(test=TestConfig(**settings), vit_configs=[vit])
    gpu = replace(server().gpus[0], memory_bytes=memory_bytes)
    return resolve_model(experiment, vit, server(), gpu)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
@pytest.mark.parametrize("config", [LARGEST, FINE, WIDE, ViTConfig(depth=1, dim=64)])
def test_the_peak_of_a_forward_pass_is_that_of_torch(config: ViTConfig, attention: str) -> None:
    batch = 3
    vit = replace(resolve_vit(config), depth=1)
    spec: RunSpec = make_spec(vit=vit, image_size=224, attention=attention)
    with torch.inference_mode(), torch.device("meta"):
        model = build_vit(spec).eval()
        images = torch.empty(batch, 3, 224, 224)
        with PeakOfElements(images) as counted:
            model(images)

    assert batch * count_peak_elements(spec.test, vit) == pytest.approx(counted.peak, rel=0.2)


@pytest.mark.parametrize("gigabytes", [16, 24, 40, 80])
def test_the_largest_default_model_keeps_its_batch_on_usual_cards(gigabytes: int) -> None:
    _, test = resolved(LARGEST, gigabytes * GB)
    assert test.batch_size == 256


@pytest.mark.parametrize(
    ("gigabytes", "settings", "batch"),
    [
        (80, {}, 256),
        (16, {}, 128),
        (8, {}, 64),
        (16, {"attention": "sdpa"}, 256),
        (16, {"batch_size": 512}, 512),
        (1, {}, 1),
        (None, {}, 256),
    ],
)
def test_an_automatic_batch_fits_into_the_device(
    gigabytes: int | None, settings: dict[str, Any], batch: int
) -> None:
    """Many tokens make the scores of an explicit attention large: 5 GB for 256 of 785 each."""
    vit, test = resolved(FINE, gigabytes and gigabytes * GB, **settings)

    assert test.batch_size == batch
    if gigabytes and batch > 1 and not settings:
        assert estimate_device_bytes(test, vit) <= USABLE * gigabytes * GB
        larger = replace(test, batch_size=2 * batch)
        assert batch == 256 or estimate_device_bytes(larger, vit) > USABLE * gigabytes * GB


def test_a_no_op_needs_its_batches_only() -> None:
    vit = resolve_vit(ViTConfig(depth=0))
    test = resolve_test(TestConfig(), server(), gpu=True)
    assert fit_batch(test, vit, 4 * GB) == test


def test_an_automatic_batch_follows_a_models_own_shape() -> None:
    own = ViTConfig(_target_="some.model", input_shape=[3, 1024, 1024])
    assert resolved(own, 80 * GB)[1].batch_size == 8


def test_copies_are_planned_for_a_gpu_without_bf16() -> None:
    """The worker waives a run in bf16 there, and copies have no precision."""
    machine: Topology = server()
    old = replace(machine.gpus[0], compute_capability=(7, 5))
    experiment = ExperimentConfig(workload="bandwidth")

    specs, _ = make_bandwidth_specs(experiment, machine, (old,))

    assert {cell.test.precision for _, _, cell in specs} == {"fp16"}
