"""The model that a spec names: a vit-pytorch ViT that returns all tokens, or a no-op; compiled."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.records import RunSpec

DTYPES = {
    "fp32": torch.float32,
    # TF32 is a mode of matrix products; tensors stay fp32.
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@cache
def vit_class() -> Any:
    """vit-pytorch's ViT.

    The package's __init__ imports torchvision, which costs a second and fails against a CPU
    build of torch, so its one file that is needed is loaded by itself. Raises MachineError when
    vit-pytorch is not installed.
    """
    found = importlib.util.find_spec("vit_pytorch")
    if found is None or not found.submodule_search_locations:
        raise MachineError("vit-pytorch is not installed; pip install vit-pytorch")
    path = Path(next(iter(found.submodule_search_locations))) / "vit.py"
    spec = importlib.util.spec_from_file_location("_numa_bench_vit", path)
    if spec is None or spec.loader is None:
        raise MachineError(f"{path} cannot be loaded; reinstall vit-pytorch")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # torch.compile looks modules up by name
    spec.loader.exec_module(module)
    return module.ViT


def build_model(spec: RunSpec, device: torch.device) -> torch.nn.Module:
    """The seeded model in eval mode, in the spec's dtype, on `device`.

    It maps (batch, channels, side, side) to (batch, patches + 1, dim); a no-op (depth 0) returns
    its input.
    """
    torch.manual_seed(spec.test.seed)
    if spec.vit.depth == 0:
        return torch.nn.Identity()
    vit = spec.vit
    model: torch.nn.Module = vit_class()(
        image_size=spec.test.image_size,
        channels=spec.test.channels,
        patch_size=vit.patch_size,
        num_classes=0,  # all tokens
        dim=vit.dim,
        depth=vit.depth,
        heads=vit.heads,
        dim_head=vit.dim_head,
        mlp_dim=vit.mlp_dim,
    )
    if spec.test.attention == "sdpa":
        _use_sdpa(model)
    model.requires_grad_(False)
    return model.eval().to(device=device, dtype=DTYPES[spec.test.precision])


class SdpaAttention(torch.nn.Module):
    """vit-pytorch's attention with torch's fused kernel in place of matmul, softmax, matmul.

    Weights and the projections are those of the module that it replaces. Maps (batch, tokens, dim)
    to the same shape.
    """

    def __init__(self, explicit: Any) -> None:
        super().__init__()
        self.norm, self.to_qkv, self.to_out = explicit.norm, explicit.to_qkv, explicit.to_out
        self.heads = explicit.heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One attention layer."""
        batch, tokens, _ = x.shape
        # to_qkv's output is query, key and value, each heads x dim_head. vit-pytorch scales by
        # dim_head ** -0.5, which is also the default of scaled_dot_product_attention.
        qkv = self.to_qkv(self.norm(x)).view(batch, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.to_out(attended.transpose(1, 2).reshape(batch, tokens, -1))
        return output


def _use_sdpa(model: Any) -> None:
    for layer in model.transformer.layers:
        # A layer of vit-pytorch's Transformer is [attention, feed-forward].
        layer[0] = SdpaAttention(layer[0])


def compile_model(
    spec: RunSpec, model: torch.nn.Module
) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[str, ...]]:
    """The model to time, and warnings about compile settings that have no effect.

    A no-op has nothing to compile.
    """
    if not spec.test.compile_model:
        return model, ()
    if spec.vit.depth == 0:
        return model, ("compile: a no-op has nothing to compile; it ran as it is",)
    warnings: tuple[str, ...] = ()
    if spec.device.kind == "cpu" and spec.test.compile_mode == "reduce-overhead":
        warnings = ("compile: reduce-overhead is CUDA graphs; on the CPU it equals default",)
    # Errors of the compiler must fail the run, and so must anything that would run eagerly.
    import torch._dynamo

    torch._dynamo.config.suppress_errors = False
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(
        model, mode=spec.test.compile_mode, fullgraph=True
    )
    return compiled, warnings


def is_compiled(spec: RunSpec) -> bool:
    """Whether the run's model is really compiled."""
    return spec.test.compile_model and spec.vit.depth > 0


def has_static_output(spec: RunSpec) -> bool:
    """Whether the compiled model replays CUDA graphs, and returns the same memory each time."""
    return is_compiled(spec) and spec.test.compile_mode in ("reduce-overhead", "max-autotune")


def prove_compiled() -> None:
    """Raise RuntimeError when torch.compile was called but nothing was compiled."""
    from torch._dynamo.utils import counters

    # torch.compile returns a callable in any case; only a captured graph proves that it worked.
    if not counters["stats"]["unique_graphs"]:
        blame = [n for n in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE") if os.environ.get(n)]
        why = f"{blame[0]} is set" if blame else "no graph was captured"
        raise RuntimeError(f"torch.compile compiled nothing: {why}")


def find_skipped_graphs(spec: RunSpec) -> tuple[str, ...]:
    """A warning where CUDA graphs were asked for and inductor went on without them."""
    if spec.device.kind != "cuda" or not is_compiled(spec):
        return ()
    from torch._dynamo.utils import counters

    skips = counters["inductor"]["cudagraph_skips"]
    return (f"compile: inductor skipped CUDA graphs {skips} times",) if skips else ()
