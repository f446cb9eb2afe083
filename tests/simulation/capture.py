"""Stream capture: what is submitted becomes nodes of a graph, as CUDA's rules have it.

CUDA Programming Guide, "Creating a Graph Using Stream Capture": another stream joins the capture
when it waits for an event of it, and has to be joined again before the capture ends; events of
outside cannot be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.memory import Region
from tests.simulation.races import Operation

Run = Callable[[], None]


class Capture:
    """One graph. `nodes` are templates in the order of submission; `last_end` its last replay."""

    def __init__(self, origin: Any, number: int) -> None:
        self.number = number
        self.nodes: list[tuple[Operation, Run]] = []
        self.last_end: list[Operation] = []
        self._origin = origin
        self._tails: dict[Any, list[Operation]] = {origin: []}
        self._known: set[Operation] = set()
        # An event that is recorded before any work still joins the stream that waits for it.
        self.add(origin, "graph root", [], [], lambda: None)

    def holds(self, stream: Any) -> bool:
        """Whether the stream is part of the capture."""
        return stream in self._tails

    def ends(self, stream: Any) -> list[Operation]:
        """The nodes that have ended when what the stream holds now has."""
        return list(self._tails[stream])

    def add_wait(self, stream: Any, point: list[Operation]) -> bool:
        """Make a stream wait, and join it to the capture; False where neither is part of it.

        Raises RuntimeError for an event of outside.
        """
        inside = bool(point) and all(node in self._known for node in point)
        if inside:
            self._tails[stream] = [*self._tails.get(stream, []), *point]
        elif self.holds(stream) and point:
            raise RuntimeError("dependency created on uncaptured work in another stream")
        return inside or self.holds(stream)

    def add(
        self, stream: Any, kind: str, reads: list[Region], writes: list[Region], run: Run
    ) -> Operation:
        """One more node. Raises RuntimeError on a stream that is not part of the capture."""
        if not self.holds(stream):
            raise RuntimeError(
                f"{kind} on a stream that is not part of the capture: it has not waited for an "
                "event of it, so replays would leave it out"
            )
        node = Operation(f"captured {kind}", kind, stream, self._tails[stream], reads, writes)
        self._tails[stream] = [node]
        self._known.add(node)
        self.nodes.append((node, run))
        return node

    def require_joined(self) -> None:
        """Raise RuntimeError when the work of some stream was not joined to the origin's."""
        reached: set[Operation] = set()
        todo = list(self._tails[self._origin])
        while todo:
            node = todo.pop()
            if node not in reached:
                reached.add(node)
                todo += node.waits
        loose = [node.kind for node, _ in self.nodes if node not in reached]
        if loose:
            raise RuntimeError(f"capture has unjoined work: {', '.join(loose)}")
