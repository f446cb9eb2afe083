"""The model that a spec names: a vit-pytorch ViT that returns all tokens, or a no-op."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from numa_bench.errors import MachineError
from numa_bench.records import RunSpec

DTYPES = {
    "fp32": torch.float32,
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
    model.requires_grad_(False)
    return model.eval().to(device=device, dtype=DTYPES[spec.test.precision])
