"""What a model returns: shape, type and FLOP; of the user's models from one forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from numa_bench.errors import ModelError, describe_exception
from numa_bench.records import JsonDict, RunSpec
from numa_bench.records.workload import input_shape, output_shape, sample_flop
from numa_bench.worker.models.build import DTYPES
from numa_bench.worker.models.custom import describe_source


@dataclass(frozen=True)
class Output:
    """The output of one batch: `shape` is (batch, ...). `observed` goes into the record."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    flop_per_sample: int
    observed: JsonDict = field(default_factory=dict)


class OwnMemory(torch.nn.Module):
    """A model whose output is copied to contiguous memory of its own, on the device."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The model's output, contiguous."""
        output: torch.Tensor = self.model(batch)
        return output.clone(memory_format=torch.contiguous_format)


def plan_output(spec: RunSpec) -> Output:
    """The output of a ViT or a no-op, computed. Raises ValueError for any other model."""
    return Output(output_shape(spec), DTYPES[spec.test.precision], sample_flop(spec) or 0)


def find_output(
    spec: RunSpec, model: torch.nn.Module, device: torch.device
) -> tuple[torch.nn.Module, Output]:
    """The model to run and what it returns.

    A model of the user's runs one batch for it, eagerly. It is wrapped in `OwnMemory` where its
    output could not be copied as it is: not contiguous, or a part of its input, which the next
    batch overwrites. Raises ModelError where the forward pass fails or its output is not one
    tensor with the batch in its first dimension.
    """
    if not spec.vit.is_custom:
        return model, plan_output(spec)
    generator = torch.Generator().manual_seed(spec.test.seed)
    values = torch.randn(input_shape(spec), generator=generator)
    batch = values.to(device=device, dtype=DTYPES[spec.test.precision])
    output, flop = _run_counted(spec, model, batch)
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"{spec.vit.origin}: the model returned a {type(output).__name__}; it has to return "
            "one tensor: wrap it in a module that selects one"
        )
    size, shape = spec.test.batch_size, tuple(output.shape)
    if not shape or shape[0] != size or 0 in shape:
        raise ModelError(
            f"{spec.vit.origin}: the model returned shape {shape} for a batch of {size}; the first "
            "dimension has to be the batch"
        )
    inside = output.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr()
    # The pipelines know an output that is its whole input: a no-op, or one computed in place.
    whole = output.data_ptr() == batch.data_ptr() and shape == tuple(batch.shape)
    if not output.is_contiguous() or (inside and not whole):
        model = OwnMemory(model)
    observed = {
        "output_shape": list(shape),
        "output_dtype": str(output.dtype).removeprefix("torch."),
        **describe_source(spec.vit),
    }
    return model, Output(shape, output.dtype, flop // size, observed)


def _run_counted(spec: RunSpec, model: torch.nn.Module, batch: torch.Tensor) -> tuple[object, int]:
    """The output of one batch and the FLOP of the operations that torch has formulas for: products
    of matrices, convolutions, attention."""
    # Imported here: it loads hundreds of modules, which the ViTs do not need.
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with FlopCounterMode(display=False) as counter:
            output: object = model(batch)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec.vit.origin}: its forward pass of a batch of shape {tuple(batch.shape)} failed: "
            f"{describe_exception(error)}"
        ) from error
    return output, int(counter.get_total_flops())
