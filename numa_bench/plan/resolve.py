"""Fill in what the settings of a model leave open, for one device of one machine. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace
from typing import Any

from numa_bench.config.model_validation import is_custom
from numa_bench.config.workload_schema import TestConfig, ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.records import TestSpec, VitSpec

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


def resolve_test(test: TestConfig, topology: Topology, *, gpu: bool) -> TestSpec:
    """Fill in what the configuration leaves open for the device.

    The pool is larger than any node's last-level cache, so that copies read memory. A GPU is warmed
    up and timed by time: its clocks ramp up, and its sensors need readings inside the window.
    """
    pool = test.memory_size_mb
    if pool is None:
        largest = max((node.llc_bytes or 0 for node in topology.nodes), default=0)
        # Twice the cache: of a ring that just exceeds it some would still be found there.
        pool = max(MIN_POOL_MB, math.ceil(2 * largest / 1e6))
    resolved = {
        "memory_size_mb": pool,
        "num_samples": (0 if gpu else CPU_SAMPLES)
        if test.num_samples == "auto"
        else test.num_samples,
        "min_timed_s": (GPU_TIMED_S if gpu else 0.0)
        if test.min_timed_s is None
        else test.min_timed_s,
        "min_warmup_s": (GPU_WARMUP_S if gpu else 0.0)
        if test.min_warmup_s is None
        else test.min_warmup_s,
    }
    return TestSpec(**{**asdict(test), **resolved})
