"""Streams, events and models of the ordering simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from tests.simulation.races import Operation

if TYPE_CHECKING:
    from tests.simulation.ordering import OrderingRuntime


@dataclass(eq=False)
class OrderedStream:
    """The last operation of a stream, and what the next one has to wait for beside it."""

    runtime: OrderingRuntime
    number: int
    tail: Operation | None = None
    pending: list[Operation] = field(default_factory=list)

    def wait_event(self, event: OrderedEvent) -> None:
        """See `Stream.wait_event`. As in CUDA, an event that was never recorded holds nothing."""
        self.runtime.add_wait(self, event)

    def ends(self) -> list[Operation]:
        """What has ended when all that was submitted here has."""
        return [*([self.tail] if self.tail else []), *self.pending]


class OrderedEvent:
    """The operations that have ended when the event has happened."""

    def __init__(self, runtime: OrderingRuntime) -> None:
        self._runtime = runtime
        self.point: list[Operation] = []

    def record(self, stream: OrderedStream | None = None) -> None:
        """See `Event.record`."""
        self.point = self._runtime.record_point(stream)

    def query(self) -> bool:
        """See `Event.query`. The host takes no order from it, so it hides no missing wait."""
        return all(operation.step is not None for operation in self.point)

    def synchronize(self) -> None:
        """See `Event.synchronize`. The thread that calls it comes after what was recorded."""
        self._runtime.wait_for(self.point)

    def elapsed_time(self, end_event: OrderedEvent) -> float:
        """Operations that the device ran in between, a microsecond each.

        Raises RuntimeError where one of the two has not happened.
        """
        return (end_event.step() - self.step()) * 1e-3

    def step(self) -> int:
        """When it happened. Raises RuntimeError when it has not."""
        steps = [operation.step for operation in self.point]
        if None in steps:
            raise RuntimeError("device not ready: the event has not happened; synchronise first")
        return max((step for step in steps if step is not None), default=0)


@dataclass(eq=False)
class StaticOutputModel:
    """A model that replays a CUDA graph: it writes its output to the same memory each time."""

    function: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """The plain forward pass, for references."""
        return self.function(batch)
