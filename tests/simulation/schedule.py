"""What was submitted and has not run yet, and which of it may run next."""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Callable

from tests.simulation.races import Operation

Run = Callable[[], None]


class Schedule:
    """Operations that wait for each other. Add them in the order of submission."""

    def __init__(self) -> None:
        self._ready: list[tuple[int, Operation, Run]] = []
        self._held: dict[Operation, tuple[int, Run, set[Operation]]] = {}
        self._followers: dict[Operation, list[Operation]] = defaultdict(list)
        self._added = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._held)

    def add(self, operation: Operation, run: Run) -> None:
        """One more operation; its `waits` say what has to end before."""
        missing = {earlier for earlier in operation.waits if earlier.step is None}
        self._added += 1
        if missing:
            self._held[operation] = (self._added, run, missing)
        else:
            self._ready.append((self._added, operation, run))
        for earlier in missing:
            self._followers[earlier].append(operation)

    def pop(self, choice: random.Random) -> tuple[Operation, Run]:
        """An operation that nothing holds back: the oldest, the newest or any of them."""
        last = len(self._ready) - 1
        place = choice.choice((0, last, choice.randint(0, last)))
        _, operation, run = self._ready.pop(place)
        return operation, run

    def release_followers(self, operation: Operation) -> None:
        """Let go of what waited for an operation that has ended."""
        for follower in self._followers.pop(operation, ()):
            number, run, missing = self._held[follower]
            missing.discard(operation)
            if not missing:
                del self._held[follower]
                bisect.insort(self._ready, (number, follower, run))
