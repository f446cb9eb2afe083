"""The model that a spec names: a ViT, a no-op or the user's own; what it returns; compiled."""

from __future__ import annotations

from numa_bench.worker.models.build import DTYPES, build_model
from numa_bench.worker.models.compilation import (
    compile_model,
    find_skipped_graphs,
    has_static_output,
    is_compiled,
    prove_compiled,
)
from numa_bench.worker.models.output import Output, find_output, plan_output
from numa_bench.worker.models.vit import vit_class

__all__ = [
    "DTYPES",
    "Output",
    "build_model",
    "compile_model",
    "find_output",
    "find_skipped_graphs",
    "has_static_output",
    "is_compiled",
    "plan_output",
    "prove_compiled",
    "vit_class",
]  # fmt: skip
