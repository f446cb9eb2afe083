"""Seven defects that a pipeline may have, put into the device that it runs on.

A pipeline that waits correctly, on a device that forgets one kind of wait, behaves like a pipeline
that lacks it. A wait is known by what it protects: the operation that waits, and the one that it
waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.simulation.ordering import OrderingRuntime
from tests.simulation.races import Operation


class WithoutWait(OrderingRuntime):
    """An operation of kind `waiter` does not wait for one of kind `awaited`."""

    def __init__(self, waiter: str, awaited: str, seed: int = 0) -> None:
        super().__init__(seed)
        self._dropped = (waiter, awaited)
        self.dropped = 0

    def keep_wait(self, awaited: Operation, kind: str) -> Operation | None:
        """See `OrderingRuntime.keep_wait`."""
        if (kind, awaited.kind) != self._dropped:
            return awaited
        self.dropped += 1
        return None


class EarlyInputRelease(OrderingRuntime):
    """A no-op's input counts as free when its compute stage has ended, not its copy to the host."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._computed: dict[str, Operation] = {}

    def keep_wait(self, awaited: Operation, kind: str) -> Operation | None:
        """See `OrderingRuntime.keep_wait`."""
        if (kind, awaited.kind) == ("H2D", "D2H"):
            return self._computed[awaited.name.replace("D2H", "compute")]
        if awaited.kind == "compute":
            self._computed[awaited.name] = awaited
        return awaited


class WithoutClone(OrderingRuntime):
    """The static output itself is copied to the host."""

    def clone(self, tensor: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.clone`."""
        return tensor


class EarlyOutputRelease(OrderingRuntime):
    """Nobody keeps the output: its memory is free for the next batch as soon as it is submitted."""

    def call_model(self, model: Callable[[Any], Any], batch: torch.Tensor) -> torch.Tensor:
        """See `CudaRuntime.call_model`."""
        output = super().call_model(model, batch)
        region = self.memory.find(output)
        assert region is not None
        return region.tensor  # the same bytes, without a lease
