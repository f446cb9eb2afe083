"""Fill in what the settings of a model leave open, for one device of one machine. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict

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


def resolve_vit(vit: ViTConfig) -> VitSpec:
    """Fill in the sizes that are null. A no-op has no size except its patch size."""
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


def default_pool_mb(topology: Topology) -> int:
    """MB of host memory that no node's last-level cache holds, at least MIN_POOL_MB."""
    largest = max((node.llc_bytes or 0 for node in topology.nodes), default=0)
    # Twice the cache: of a ring that just exceeds it some would still be found there.
    return max(MIN_POOL_MB, math.ceil(2 * largest / 1e6))


def resolve_test(test: TestConfig, topology: Topology, *, gpu: bool) -> TestSpec:
    """Fill in what the configuration leaves open for the device.

    The pool is larger than any node's last-level cache, so that copies read memory. A GPU is warmed
    up and timed by time: its clocks ramp up, and its sensors need readings inside the window.
    """
    pool = test.memory_size_mb
    if pool is None:
        pool = default_pool_mb(topology)
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
