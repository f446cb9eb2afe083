"""Small contexts for checks: tiny models, short windows, and a fake GPU where one is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.pcie import Link
from numa_bench.records import Placement
from numa_bench.selftest.context import Context, Cuda
from tests.machines import laptop, make_gpu
from tests.selftest.fake_cuda import FakeCuda

#: A link of 31.5 GB/s.
PCIE4 = Link(4, 16, "test")
TINY = (
    ViTConfig(patch_size=32, depth=0),
    ViTConfig(patch_size=32, depth=1, dim=32),
)
UNBOUND = Placement(None, (), "none", "unbound")
BOUND = Placement(0, (0,), "bind", "local", cpus=(0, 1, 2, 3))
SMALL: dict[str, Any] = {
    "batch_size": 2,
    "image_size": 64,
    "memory_size_mb": 1,
    "precision": "fp32",
}


def make_context(**changes: Any) -> Context:
    """No GPU, nothing bound, everything small."""
    context = Context(
        laptop(),
        UNBOUND,
        copy_bytes=200_000,
        window_s=0.01,
        pairs=6,
        slow_pairs=6,
        models=TINY,
        test_settings=SMALL,
    )
    return replace(context, **changes)


def make_cuda_context(runtime: FakeCuda, link: Link | None = PCIE4, **changes: Any) -> Context:
    """The same with a fake GPU."""
    cuda = Cuda(runtime, make_gpu(0, 0), link)
    return make_context(cuda=cuda, **changes)
