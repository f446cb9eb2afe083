"""Threads of the host in the simulations: in adversarial order, and on a virtual clock."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from tests.simulation.races import Clock, join

if TYPE_CHECKING:
    from tests.simulation.ordering import OrderingRuntime
    from tests.simulation.timing import TimingRuntime


_Lane = TypeVar("_Lane")


class LaneHost(Generic[_Lane]):
    """What both simulated devices know of their host's threads: whose turn it is."""

    #: The lane that works now; None: the main thread.
    _on_lane: _Lane | None = None

    @contextlib.contextmanager
    def on_lane(self, lane: _Lane) -> Iterator[None]:
        """What happens inside is done by the lane's thread."""
        assert self._on_lane is None, "a lane has no lanes"
        self._on_lane = lane
        try:
            yield
        finally:
            self._on_lane = None


@dataclass(eq=False)
class OrderedTask:
    """A task of an `OrderedLane`; `known` is what its submitter knew to be over."""

    lane: OrderedLane
    task: Callable[[], float]
    known: Clock
    value: float | None = None
    clock: Clock = field(default_factory=dict)

    def result(self) -> float:
        """See `Pending.result`."""
        while self.value is None:
            self.lane.run_one()
        self.lane.runtime.learn(self.clock)
        return self.value


class OrderedLane:
    """Tasks in order, each at any time between its submission and the wait for it."""

    def __init__(self, runtime: OrderingRuntime, number: int) -> None:
        self.runtime, self.number = runtime, number
        self.clock: Clock = {}
        self._queue: deque[OrderedTask] = deque()

    def submit(self, task: Callable[[], float], /) -> OrderedTask:
        """See `HostLane.submit`."""
        self._queue.append(OrderedTask(self, task, dict(self.runtime.host_clock)))
        submitted = self._queue[-1]
        while self._queue and self.runtime.choose():
            self.run_one()
        return submitted

    def run_one(self) -> None:
        """Run the oldest task."""
        task = self._queue.popleft()
        self.clock = join(self.clock, task.known)
        with self.runtime.on_lane(self):
            task.value = task.task()
        task.clock = dict(self.clock)

    def finish(self) -> None:
        """Run all tasks."""
        while self._queue:
            self.run_one()


@dataclass(eq=False)
class TimedTask:
    """A task of a `TimedLane`, submitted at a time of the virtual clock."""

    lane: TimedLane
    task: Callable[[], float]
    submitted: float
    value: float | None = None
    ended: float = 0.0

    def result(self) -> float:
        """See `Pending.result`."""
        while self.value is None:
            self.lane.run_one()
        self.lane.runtime.wait_until(self.ended)
        return self.value


class TimedLane:
    """Tasks in order, on a clock of their own that starts with each submission.

    They are worked out when somebody waits for them. Until then that thread submits nothing that
    could begin earlier than what they wait for.
    """

    def __init__(self, runtime: TimingRuntime) -> None:
        self.runtime = runtime
        self.time = 0.0
        self._queue: deque[TimedTask] = deque()

    def submit(self, task: Callable[[], float], /) -> TimedTask:
        """See `HostLane.submit`."""
        self._queue.append(TimedTask(self, task, self.runtime.host_time()))
        return self._queue[-1]

    def run_one(self) -> None:
        """Work out the oldest task."""
        task = self._queue.popleft()
        self.time = max(self.time, task.submitted)
        with self.runtime.on_lane(self):
            task.value = task.task()
        task.ended = self.time
