"""When a window begins and ends, and what must not happen inside it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from numa_bench.worker.pipelines.pipeline import Limits
from numa_bench.worker.pipelines.warmup import warm_up
from numa_bench.worker.recorder import NoMarks
from numa_bench.worker.torch_cuda import TorchCuda
from tests.simulation.engines import TimedEvent
from tests.simulation.links import Links
from tests.simulation.pipelines import RecordingPool, make_pipeline
from tests.simulation.timing import TimingRuntime
from tests.simulation.workloads import SHAPE, build, no_op

pytestmark = pytest.mark.slow


class WindowMarks(NoMarks):
    """Calls `look` when the submissions of a window begin and when they end."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self.seen: list[Any] = []

    def open_window(self) -> None:
        """See `Marks.open_window`."""
        self.seen.append(self._look())

    def close_window(self) -> None:
        """See `Marks.close_window`."""
        self.seen.append(self._look())


class CountingRuntime(TimingRuntime):
    """Counts the events that it creates."""

    created = 0

    def new_event(self) -> TimedEvent:
        """See `CudaRuntime.new_event`."""
        self.created += 1
        return super().new_event()


@pytest.mark.parametrize("graph", [False, True])
def test_no_event_is_created_while_a_window_is_timed(graph: bool) -> None:
    runtime = CountingRuntime(Links())
    pipeline = make_pipeline(runtime, no_op, RecordingPool(runtime, SHAPE), 2, graph=graph)
    marks = WindowMarks(lambda: (runtime.created, gc.isenabled()))
    for batches in (1, 50, 500):
        pipeline.run(Limits(batches), marks)

    opened, closed = marks.seen[::2], marks.seen[1::2]
    assert opened == closed
    assert not any(collecting for _, collecting in opened)
    assert opened[0] < opened[-1]


def test_a_new_event_is_on_the_device_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch creates an event at its first record, which is a driver call."""
    recorded = []

    class LazyEvent:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: object) -> None:
            recorded.append((self, stream))

    monkeypatch.setattr(torch.cuda, "Event", LazyEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    runtime = TorchCuda.__new__(TorchCuda)
    runtime.device = torch.device("cuda", 0)

    event = runtime.new_event()
    assert [(id(e), stream) for e, stream in recorded] == [(id(event), "stream of cuda:0")]


class SlotRuntime(TimingRuntime):
    """Notes where on the device copies from the host go."""

    def __init__(self, links: Links) -> None:
        super().__init__(links)
        self.slots: set[int] = set()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `CudaRuntime.copy`."""
        super().copy(target, source)
        if self.is_on_device(target):
            self.slots.add(target.data_ptr())


@pytest.mark.parametrize("depth", [1, 3, 4, 8])
def test_every_slot_is_warmed_up(depth: int) -> None:
    runtime = SlotRuntime(Links())
    pipeline = make_pipeline(runtime, no_op, RecordingPool(runtime, SHAPE), depth)
    _, record = warm_up(pipeline, 10, least_samples=1, budget_s=10.0, depth=depth)

    assert len(runtime.slots) == depth
    assert record["settled"]


#: A millisecond for each copy: seconds of the virtual clock are few batches.
SLOW = Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=1e9)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "links",
    [
        SLOW,
        Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=0.2e9),
        Links(h2d_bytes_per_s=1e9, d2h_bytes_per_s=1e9, noise=0.05),
    ],
)
def test_windows_last_as_long_as_they_have_to(links: Links, graph: bool) -> None:
    pipeline, _ = build(links, no_op, graph=graph)
    pipeline.run(Limits(1))
    warm, record = warm_up(pipeline, 10, least_samples=60, budget_s=5.0, least_s=1.0, depth=3)
    window = pipeline.run(Limits(6, 60.0, 2.0))

    assert 1.0 <= warm.wall_s < 1.3
    assert record["settled"]
    assert 2.0 <= window.wall_s < 2.2


def test_the_first_block_of_warm_up_lasts_no_longer_than_it_has_to() -> None:
    """A window's batches are counted from the one before, whose pipeline filled and drained."""
    pipeline, _ = build(SLOW, no_op)
    windows = [pipeline.run(Limits(batches, 60.0, 2.0)) for batches in (3, 6)]

    assert windows[0].batches == 3
    assert 2.0 <= windows[1].wall_s < 2.2


def test_a_number_of_batches_means_at_least_so_many() -> None:
    pipeline, _ = build(SLOW, no_op)
    pipeline.run(Limits(10))

    assert pipeline.run(Limits(700, 60.0, 0.5)).batches == 700


def test_the_budget_caps_a_window() -> None:
    pipeline, _ = build(SLOW, no_op)
    pipeline.run(Limits(10))
    window = pipeline.run(Limits(5000, 1.0, 2.0))

    assert window.wall_s == pytest.approx(1.0, rel=0.1)


def test_the_collector_is_called_once_for_a_whole_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two blocks the device idles for as long as a collection takes."""
    calls = []
    monkeypatch.setattr(gc, "collect", lambda: calls.append(1))
    pipeline, _ = build(SLOW, no_op)
    warm_up(pipeline, 10, least_samples=60, budget_s=5.0, least_s=1.0, depth=3)

    assert len(calls) == 1
