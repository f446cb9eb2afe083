"""Fill in what the settings of a model leave open, for one device of one machine. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from typing import Any

from numa_bench.config.model_validation import is_custom
from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import AUTO, TestConfig, ViTConfig
from numa_bench.config.validation import merge_test_settings
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.device_memory import fit_batch
from numa_bench.records import TestSpec, VitSpec
from numa_bench.records.workload import ELEMENT_BYTES

#: Floor of the sample pool, used alone where no cache size is reported. A choice: eight times the
#: last-level cache of a desktop CPU (32 MB).
MIN_POOL_MB = 256
#: What `auto` and null mean. On a GPU clocks settle within about a second, and two seconds hold
#: ten or more readings of the sensors at 5 Hz; on the CPU samples are counted.
CPU_SAMPLES = 2000
GPU_TIMED_S = 2.0
GPU_WARMUP_S = 1.0
#: Most characters of a name that is made of a model's arguments.
_NAME_LENGTH = 60
AUTO_DEPTH = 2
#: The input of an automatic batch is at most so large, in bytes. At 224 px in bf16 a batch is then
#: 256 images or 77 MB: 1.4 ms at the 55 GB/s of a PCIe 5.0 x16 link, where preparing the operations
#: of a model of depth 6 takes the host 0.8 ms; with half of that batch the host would set the
#: pace. Link and compute then cross over at about 2.2 GFLOP an image on an H100.
AUTO_BATCH_BYTES = 80_000_000
#: Most samples of an automatic batch. On the CPU, where nothing hides the host's cost per batch,
#: eight keep a batch in the tens of milliseconds.
GPU_MAX_BATCH, CPU_MAX_BATCH = 256, 8
#: The first compute capability with bf16 in its tensor cores (Ampere).
BF16_CAPABILITY = (8, 0)


def resolve_model(
    experiment: ExperimentConfig, vit: ViTConfig, topology: Topology, gpu: Gpu | None
) -> tuple[VitSpec, TestSpec]:
    """A model and its settings, with everything filled in for the device.

    An automatic batch is one that fits into the device's memory, where the driver says how much
    there is.
    """
    test = merge_test_settings(experiment.test, vit)
    capability = gpu.compute_capability if gpu is not None else None
    model = resolve_vit(vit)
    resolved = resolve_test(
        test, topology, gpu=gpu is not None, capability=capability, shape=model.input_shape
    )
    resolved = fit_test(resolved, model)
    if test.batch_size == AUTO and gpu is not None and gpu.memory_bytes is not None:
        resolved = fit_batch(resolved, model, gpu.memory_bytes)
    return model, resolved


def resolve_vit(vit: ViTConfig) -> VitSpec:
    """Fill in what is null: the sizes of a ViT, the name of any model.

    A no-op has no size except its patch size, and a model that is no ViT has none.
    """
    if is_custom(vit):
        shape = vit.input_shape
        return VitSpec(
            name=vit.name or _derive_name(vit),
            target=vit._target_,
            timm=vit.timm,
            args=dict(vit.args or {}),
            input_shape=None if shape is None else (shape[0], shape[1], shape[2]),
        )
    if vit.depth == 0:
        return VitSpec(vit.name or f"vit{vit.patch_size}x0", vit.patch_size, 0, 0, 0, 0, 0)
    if vit.heads is not None:
        heads = vit.heads
    elif vit.dim_head is not None:
        heads = max(1, vit.dim // vit.dim_head)
    else:
        # 64 per head, as in ViT-B (768 / 12), or the next larger size that divides dim.
        most = max(1, vit.dim // 64)
        heads = next(h for h in range(most, 0, -1) if vit.dim % h == 0)
    return VitSpec(
        name=vit.name or f"vit{vit.patch_size}x{vit.depth}x{vit.dim}",
        patch_size=vit.patch_size,
        depth=vit.depth,
        dim=vit.dim,
        heads=heads,
        dim_head=vit.dim_head or vit.dim // heads,
        # The ratio of ViT (ViT-B: 768 and 3072).
        mlp_dim=vit.mlp_dim or 4 * vit.dim,
    )


def fit_test(test: TestSpec, vit: VitSpec) -> TestSpec:
    """The test settings with the channels and the height of a model's own input shape."""
    if vit.input_shape is None:
        return test
    channels, height, _ = vit.input_shape
    return replace(test, channels=channels, image_size=height)


def _derive_name(vit: ViTConfig) -> str:
    """The last part of what makes the model, and its arguments: "make_net-width8"."""
    made_by = vit._target_.rpartition(".")[2] if vit._target_ is not None else str(vit.timm)
    args: dict[str, Any] = vit.args or {}
    text = "-".join([made_by, *(f"{key}{value}" for key, value in args.items())])
    # Only what a directory's name may have; two models with the same text differ in their hash.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.-")
    return plain[:_NAME_LENGTH].rstrip("_.-") or "model"


def default_pool_mb(topology: Topology) -> int:
    """MB of host memory that no node's last-level cache holds, at least MIN_POOL_MB."""
    largest = max((node.llc_bytes or 0 for node in topology.nodes), default=0)
    # Twice the cache: of a ring that just exceeds it some would still be found there.
    return max(MIN_POOL_MB, math.ceil(2 * largest / 1e6))


def resolve_test(
    test: TestConfig,
    topology: Topology,
    *,
    gpu: bool,
    capability: tuple[int, int] | None = None,
    shape: tuple[int, int, int] | None = None,
) -> TestSpec:
    """Fill in what the configuration leaves open for the device.

    The pool is larger than any node's last-level cache, so that copies read memory. A GPU is warmed
    up and timed by time: its clocks ramp up, and its sensors need readings inside the window.
    `capability` is the GPU's compute capability (None: not known), `shape` that of one sample
    (None: the settings' own).
    """
    pool = test.memory_size_mb
    if pool is None:
        pool = default_pool_mb(topology)
    precision = test.precision
    if precision == AUTO:
        precision = choose_precision(gpu=gpu, capability=capability)
    resolved = {
        "memory_size_mb": pool,
        "precision": precision,
        "batch_size": _unless_auto(
            test.batch_size, choose_batch_size(test, precision, gpu=gpu, shape=shape)
        ),
        "pipeline_depth": _unless_auto(test.pipeline_depth, AUTO_DEPTH),
        "num_samples": _unless_auto(test.num_samples, 0 if gpu else CPU_SAMPLES),
        "min_timed_s": _unless_null(test.min_timed_s, GPU_TIMED_S if gpu else 0.0),
        "min_warmup_s": _unless_null(test.min_warmup_s, GPU_WARMUP_S if gpu else 0.0),
    }
    return TestSpec(**{**asdict(test), **resolved})


def choose_precision(*, gpu: bool, capability: tuple[int, int] | None = None) -> str:
    """What precision=auto means: the half precision that the GPU computes fast, fp32 on the CPU."""
    if not gpu:
        return "fp32"
    return "fp16" if capability is not None and capability < BF16_CAPABILITY else "bf16"


def choose_batch_size(
    test: TestConfig,
    precision: str,
    *,
    gpu: bool,
    shape: tuple[int, int, int] | None = None,
) -> int:
    """What batch_size=auto means: the largest power of two within AUTO_BATCH_BYTES and the most
    samples for the device; at least 1. `shape` is that of one sample (None: the settings' own)."""
    elements = math.prod(shape or (test.channels, test.image_size, test.image_size))
    sample_bytes = ELEMENT_BYTES[precision] * elements
    most = min(GPU_MAX_BATCH if gpu else CPU_MAX_BATCH, AUTO_BATCH_BYTES // sample_bytes)
    return 1 << max(0, most.bit_length() - 1)


def _unless_auto(value: Any, chosen: int) -> int:
    return chosen if value == AUTO else int(value)


def _unless_null(value: float | None, default: float) -> float:
    return default if value is None else value
