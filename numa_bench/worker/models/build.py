"""The model of a spec, ready to run: seeded, in eval mode, in its precision, on its device."""

from __future__ import annotations

import torch

from numa_bench.errors import ModelError, describe_exception
from numa_bench.records import RunSpec
from numa_bench.worker.models.custom import build_custom
from numa_bench.worker.models.vit import build_vit

DTYPES = {
    "fp32": torch.float32,
    # TF32 is a mode of matrix products; tensors stay fp32.
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def build_model(spec: RunSpec, device: torch.device) -> torch.nn.Module:
    """The seeded model in eval mode, in the spec's dtype, on `device`.

    It maps a batch of `workload.input_shape` to (batch, ...); a no-op (depth 0) returns its input.
    Raises ModelError for a model of the user's that cannot be built, Waived without timm.
    """
    torch.manual_seed(spec.test.seed)
    if spec.vit.is_no_op:
        return torch.nn.Identity()
    dtype = DTYPES[spec.test.precision]
    if not spec.vit.is_custom:
        model = build_vit(spec)
        return model.requires_grad_(False).eval().to(device=device, dtype=dtype)
    model = build_custom(spec.vit)
    try:
        return model.requires_grad_(False).eval().to(device=device, dtype=dtype)
    except Exception as error:
        raise ModelError(
            f"{spec.vit.origin} cannot be moved to {device} as {dtype}: {describe_exception(error)}"
        ) from error
