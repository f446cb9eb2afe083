"""vit-pytorch's ViT that returns all tokens, with its own attention or a fused one."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.records import RunSpec


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


def build_vit(spec: RunSpec) -> torch.nn.Module:
    """The ViT of a spec on the CPU in fp32, with random weights.

    It maps (batch, channels, side, side) to (batch, patches + 1, dim).
    """
    model: torch.nn.Module = vit_class()(
        image_size=spec.test.image_size,
        channels=spec.test.channels,
        num_classes=0,  # all tokens
        **spec.vit.sizes(),
    )
    if spec.test.attention == "sdpa":
        _use_sdpa(model)
    return model


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
