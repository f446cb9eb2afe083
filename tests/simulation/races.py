"""Which two accesses to memory are held apart by nothing: vector clocks over streams.

Fidge 1988 and Mattern 1989: an operation carries, for every lane (stream, or branch of a graph),
the number of that lane's operations that are finished before it ends. Of two operations one comes
first exactly if its own number is within the other's clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from tests.simulation.memory import Buffer, Region

Clock = dict[Hashable, int]


@dataclass(eq=False)
class Operation:
    """Something submitted: its name ("D2H 3"), its kind ("D2H"), its lane and what it waits for."""

    name: str
    kind: str
    lane: Hashable
    waits: list[Operation]
    reads: list[Region] = field(default_factory=list)
    writes: list[Region] = field(default_factory=list)
    clock: Clock = field(default_factory=dict)
    #: When it ran, counted in operations; None: not yet.
    step: int | None = None

    def is_after(self, other: Operation) -> bool:
        """Whether `other` has ended when this begins, on every schedule."""
        return self.clock.get(other.lane, 0) >= other.clock[other.lane]


@dataclass(frozen=True)
class Race:
    """Two operations on the same bytes, at least one of which writes, in no order."""

    first: str
    second: str
    buffer: str
    first_writes: bool
    second_writes: bool

    def __str__(self) -> str:
        return (
            f"{self.second} {_does(self.second_writes)} {self.buffer} while {self.first} may still "
            f"{'write' if self.first_writes else 'read'} it: missing is a wait of {self.second} "
            f"for the end of {self.first}"
        )


def _does(writes: bool) -> str:
    return "writes" if writes else "reads"


class RaceDetector:
    """Give it every operation in the order of submission; `races` has what it found."""

    def __init__(self) -> None:
        self.races: list[Race] = []
        self._counts: dict[Hashable, int] = defaultdict(int)
        self._reads: dict[Buffer, list[tuple[Operation, Region]]] = defaultdict(list)
        self._writes: dict[Buffer, list[tuple[Operation, Region]]] = defaultdict(list)

    def add(self, operation: Operation, host: Mapping[Hashable, int]) -> None:
        """Clock the operation, which the host submits knowing `host` is over, and compare it."""
        clock = join(host, *(earlier.clock for earlier in operation.waits))
        self._counts[operation.lane] += 1
        clock[operation.lane] = self._counts[operation.lane]
        operation.clock = clock
        for region in operation.reads:
            self._compare(operation, region, self._writes[region.buffer], writes=False)
            self._reads[region.buffer].append((operation, region))
        for region in operation.writes:
            self._compare(operation, region, self._writes[region.buffer], writes=True)
            self._compare(operation, region, self._reads[region.buffer], writes=True)
            for accesses in (self._reads, self._writes):
                accesses[region.buffer] = [
                    (op, r)
                    for op, r in accesses[region.buffer]
                    if op is operation or r.begin < region.begin or r.end > region.end
                ]
            self._writes[region.buffer].append((operation, region))

    def forget(self, buffer: Buffer) -> None:
        """The memory is another's from now on."""
        self._reads.pop(buffer, None)
        self._writes.pop(buffer, None)

    def _compare(
        self,
        operation: Operation,
        region: Region,
        earlier: Iterable[tuple[Operation, Region]],
        *,
        writes: bool,
    ) -> None:
        of_writes = earlier is self._writes[region.buffer]
        for other, place in earlier:
            apart = place.end <= region.begin or region.end <= place.begin
            if other is operation or apart or operation.is_after(other):
                continue
            name = region.buffer.name
            self.races.append(Race(other.name, operation.name, name, of_writes, writes))


def join(*clocks: Mapping[Hashable, int]) -> Clock:
    """The least clock that is not before any of these."""
    joined: Clock = {}
    for clock in clocks:
        for lane, count in clock.items():
            joined[lane] = max(count, joined.get(lane, 0))
    return joined
