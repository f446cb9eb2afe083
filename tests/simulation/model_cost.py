"""What a model costs: shape, FLOP and kernels of a forward pass, from one over a single sample.

Tensors on the device "meta" would need no arithmetic, but load 800 modules of torch, for seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ModelCost:
    """One forward pass. `no_op`: the result is a view of the input."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    flop: int
    kernels: int
    no_op: bool


@dataclass(frozen=True)
class Content:
    """What device memory holds: a host tensor's values, or a model's output for a content."""

    source: Any
    model: Model | None = None


class _CountWork(TorchDispatchMode):
    """Counts operations that make something (views launch nothing), and FLOP of products."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.flop = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; to keep dynamo out would import it, for a second."""
        return False

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        aliases = [argument.alias_info for argument in func._schema.arguments]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        self.kernels += not is_view and name != "_unsafe_view"
        self.flop += _count_flop(name, args, result)
        return result


def _count_flop(name: str, args: tuple[Any, ...], result: Any) -> int:
    """Two for a multiply with its add; only products of matrices count."""
    if name in ("mm", "bmm"):
        return 2 * int(result.numel()) * int(args[0].shape[-1])
    if name in ("addmm", "baddbmm"):
        return 2 * int(result.numel()) * int(args[1].shape[-1])
    if name == "convolution":
        return 2 * int(result.numel()) * int(args[1][0].numel())
    if name.startswith("_scaled_dot_product"):
        return 4 * int(args[0].numel()) * int(args[1].shape[-2])
    return 0


class ModelRunner:
    """Costs of models, and their outputs where somebody looks at them.

    A model of more than `evaluate_flop` FLOP is not computed: its output is made of its input's
    mean, the same each time and different for different inputs.
    """

    def __init__(self, evaluate_flop: float) -> None:
        self._limit = evaluate_flop
        self._costs: dict[tuple[Any, ...], ModelCost] = {}

    def cost(self, model: Model, batch: torch.Tensor) -> ModelCost:
        """The cost of one forward pass."""
        key = (model, batch.shape, batch.dtype)
        found = self._costs.get(key)
        if found is None:
            found = self._costs[key] = measure_cost(model, batch.shape, batch.dtype)
        return found

    def evaluate(self, content: Content) -> torch.Tensor:
        """The values of a content."""
        if content.model is None:
            values: torch.Tensor = content.source
            return values
        batch = self.evaluate(content.source)
        cost = self.cost(content.model, batch)
        if cost.flop <= self._limit:
            return content.model(batch)
        ramp = torch.linspace(1, 2, cost.shape[-1])
        return (ramp * (1 + batch.float().mean())).to(cost.dtype).expand(cost.shape)


def measure_cost(model: Model, shape: tuple[int, ...], dtype: torch.dtype) -> ModelCost:
    """The cost of a batch, from one sample of zeros; the first dimension counts samples."""
    plain: Any = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    samples = shape[0]
    # Outside inference mode, which hides the parts of composite operations from the counter.
    with torch.inference_mode(False), torch.no_grad(), _CountWork() as work:
        batch = torch.zeros((1, *shape[1:]), dtype=dtype)
        made = work.kernels
        result = plain(batch)
    same = result.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr()
    return ModelCost(
        shape=(samples, *result.shape[1:]),
        dtype=result.dtype,
        flop=0 if same else samples * work.flop,
        kernels=0 if same else max(1, work.kernels - made),
        no_op=same,
    )
