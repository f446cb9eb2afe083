"""The model is what the spec says, without importing torchvision."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from numa_bench.records import VitSpec
from numa_bench.records.workload import input_shape, output_shape
from numa_bench.worker.models import build_model
from tests.specs import NO_OP, VIT, make_spec

CPU = torch.device("cpu")


def test_output_is_all_tokens() -> None:
    spec = make_spec()
    model = build_model(spec, CPU)
    output = model(torch.zeros(input_shape(spec)))
    assert tuple(output.shape) == output_shape(spec) == (2, 4 + 1, 32)


def test_no_op_returns_its_input() -> None:
    spec = make_spec(vit=NO_OP)
    batch = torch.randn(input_shape(spec))
    assert build_model(spec, CPU)(batch) is batch
    assert output_shape(spec) == input_shape(spec)


def test_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        return build_model(make_spec(seed=seed), CPU).state_dict()["pos_embedding"]

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_sizes_reach_the_model() -> None:
    vit = replace(VIT, depth=3, heads=2, dim_head=8, mlp_dim=48)
    state = build_model(make_spec(vit=vit), CPU).state_dict()
    assert sum(name.endswith("to_qkv.weight") for name in state) == 3
    assert next(v for k, v in state.items() if k.endswith("to_qkv.weight")).shape == (3 * 16, 32)
    assert any(v.shape == (48, 32) for v in state.values())


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision_is_the_dtype(precision: str, dtype: torch.dtype) -> None:
    model = build_model(make_spec(precision=precision), CPU)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


@pytest.mark.slow
def test_torchvision_is_never_imported() -> None:
    code = (
        "import sys, torch\n"
        "from numa_bench.worker import models\n"
        "from tests.specs import make_spec\n"
        "models.build_model(make_spec(), torch.device('cpu')); print('torchvision' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("heads", [1, 4])
def test_fused_attention_computes_the_same_with_the_same_weights(heads: int) -> None:
    vit = VitSpec("two", 32, 2, 64, heads, 64 // heads, 128)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    explicit = build_model(make_spec(vit=vit), torch.device("cpu"))
    fused = build_model(make_spec(vit=vit, attention="sdpa"), torch.device("cpu"))

    assert [name for name, _ in fused.named_parameters()] == [
        name for name, _ in explicit.named_parameters()
    ]
    torch.testing.assert_close(fused(batch), explicit(batch), rtol=1e-4, atol=1e-5)
    kinds = {type(layer[0]).__name__ for layer in fused.transformer.layers}  # type: ignore[union-attr]
    assert kinds == {"SdpaAttention"}
