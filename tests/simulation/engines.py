"""The device side of the virtual clock: streams in order, one engine per kind of work.

Times are computed when the host synchronises. Two copies in opposite directions at the same time
slow each other down where they share a link, so how long a copy takes depends on what is submitted
after it; kernels do not share anything here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

H2D, D2H = 0, 1
_RECORD, _WAIT, _KERNEL, _COPY = range(4)


class Stamp:
    """One recording of an event: its time in seconds, None until it is known."""

    __slots__ = ("time",)

    def __init__(self) -> None:
        self.time: float | None = None


class TimedStream:
    """Work in the order of submission; `ready` is when all before the first of it has ended."""

    def __init__(self, waited: Callable[[TimedStream, Any], None]) -> None:
        self._waited = waited
        self.queue: deque[tuple[Any, ...]] = deque()
        self.ready = 0.0

    def wait_event(self, event: Any) -> None:
        """See `Stream.wait_event`."""
        self._waited(self, event)

    def add_record(self, submitted: float) -> Stamp:
        """Note when the stream gets here, which is not before the host submits it."""
        stamp = Stamp()
        self.queue.append((_RECORD, stamp, submitted))
        return stamp

    def add_wait(self, stamp: Stamp) -> None:
        """Hold the stream until the stamp's time."""
        self.queue.append((_WAIT, stamp))

    def add_kernel(self, submitted: float, seconds: float, not_before: float = 0.0) -> None:
        """Work on the compute engine that ends no earlier than `not_before`."""
        self.queue.append((_KERNEL, submitted, seconds, not_before))

    def add_copy(self, submitted: float, direction: int, seconds: float) -> None:
        """A copy that takes `seconds` when it has the link for itself."""
        self.queue.append((_COPY, submitted, direction, seconds))


class TimedEvent:
    """An event of the virtual clock."""

    def __init__(
        self,
        record: Callable[[TimedEvent, TimedStream | None], None],
        has_happened: Callable[[Stamp], bool],
        wait_for: Callable[[Stamp], None],
    ) -> None:
        self._record, self._has_happened, self._wait_for = record, has_happened, wait_for
        self.stamp: Stamp | None = None

    def record(self, stream: TimedStream | None = None) -> None:
        """See `Event.record`."""
        self._record(self, stream)

    def synchronize(self) -> None:
        """See `Event.synchronize`."""
        if self.stamp is not None:
            self._wait_for(self.stamp)

    def query(self) -> bool:
        """See `Event.query`."""
        return self.stamp is None or self._has_happened(self.stamp)

    def elapsed_time(self, end_event: TimedEvent) -> float:
        """See `Event.elapsed_time`. Raises RuntimeError where one of them has not happened."""
        return (end_event.time() - self.time()) * 1e3

    def time(self) -> float:
        """Seconds of the virtual clock. Raises RuntimeError when it has not happened."""
        if self.stamp is None or self.stamp.time is None:
            raise RuntimeError("device not ready: the event has not happened; synchronise first")
        return self.stamp.time


class _Copy:
    """A copy that runs: `left` seconds if it were alone."""

    __slots__ = ("left", "stream")

    def __init__(self, stream: TimedStream, left: float) -> None:
        self.stream, self.left = stream, left


class Engines:
    """Rates are bytes per second; `both` bounds the two directions together."""

    def __init__(self, h2d: float, d2h: float, both: float) -> None:
        #: How fast a copy goes while there is another in the other direction.
        self.shared = min(1.0, both / (h2d + d2h))
        self.streams: list[TimedStream] = []
        self._kernels_free = 0.0
        self._free = [0.0, 0.0]
        self._running: list[_Copy | None] = [None, None]
        self._now = 0.0

    def new_stream(self, waited: Callable[[TimedStream, Any], None]) -> TimedStream:
        """One more stream; `waited` is called for its `wait_event`."""
        self.streams.append(TimedStream(waited))
        return self.streams[-1]

    def drain(self) -> float:
        """Work out all that was submitted; when its last operation ended, in seconds."""
        self.advance(math.inf)
        assert not any(stream.queue for stream in self.streams), "a wait for what never happens"
        return max(stream.ready for stream in self.streams)

    def advance(self, until: float) -> None:
        """Work out what happened until this moment of the host's clock.

        Whatever is submitted later begins later, so it changes nothing of it.
        """
        while True:
            while any([self._advance(stream) for stream in self.streams if stream.queue]):
                pass
            if not self._next_copy_event(until):
                break

    def advance_to(self, stamp: Stamp) -> float:
        """Work out when a recording is reached, and nothing that begins later."""
        while stamp.time is None:
            if any([self._advance(stream) for stream in self.streams if stream.queue]):
                continue
            assert self._next_copy_event(math.inf), "a wait for what never happens"
        return stamp.time

    def _advance(self, stream: TimedStream) -> bool:
        """Work off what can be known now, up to the first copy; whether there was any."""
        queue, moved = stream.queue, False
        while queue:
            head = queue[0]
            kind = head[0]
            if kind == _RECORD:
                head[1].time = max(stream.ready, head[2])
            elif kind == _WAIT:
                if head[1].time is None:
                    break
                stream.ready = max(stream.ready, head[1].time)
            elif kind == _KERNEL:
                begin = max(stream.ready, head[1], self._kernels_free)
                stream.ready = self._kernels_free = max(begin + head[2], head[3])
            else:
                break
            queue.popleft()
            moved = True
        return moved

    def _next_copy_event(self, until: float) -> bool:
        """Go to the next beginning or end of a copy; False where there is none by then.

        Whatever is still unknown depends on a copy that runs or waits, so nothing earlier is
        missed.
        """
        speed = self.shared if None not in self._running else 1.0
        when, which, start = math.inf, H2D, None
        for direction in (H2D, D2H):
            running = self._running[direction]
            if running is not None:
                moment, stream = self._now + running.left / speed, None
            else:
                moment, stream = self._next_start(direction)
            if moment < when:
                when, which, start = moment, direction, stream
        if when == math.inf or when > until:
            return False
        for running in self._running:
            if running is not None:
                running.left -= (when - self._now) * speed
        self._now = when
        if start is not None:
            self._running[which] = _Copy(start, start.queue[0][3])
        else:
            self._end_copy(which, when)
        return True

    def _next_start(self, direction: int) -> tuple[float, TimedStream | None]:
        """When the next copy in a free direction can begin, and on which stream; inf: never."""
        when, chosen = math.inf, None
        for stream in self.streams:
            head = stream.queue[0] if stream.queue else None
            if head is not None and head[0] == _COPY and head[2] == direction:
                begin = max(stream.ready, head[1], self._free[direction])
                if begin < when:
                    when, chosen = begin, stream
        return when, chosen

    def _end_copy(self, direction: int, when: float) -> None:
        ended = self._running[direction]
        assert ended is not None
        ended.stream.queue.popleft()
        ended.stream.ready = self._free[direction] = when
        self._running[direction] = None
