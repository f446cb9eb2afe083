"""Samples of many points in turn, round by round, so that drift meets all of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")
S = TypeVar("S")


@dataclass(frozen=True)
class Rounds(Generic[S]):
    """The samples of each point, in the order of the points, and how many rounds there were."""

    samples: tuple[list[S], ...]
    count: int


def measure_in_rounds(
    points: Sequence[P],
    measure: Callable[[P], S],
    *,
    rounds: int,
    budget_s: float,
    seed: int,
    now: Callable[[], float],
) -> Rounds[S]:
    """Measure every point once per round, each round in a random order of its own.

    The first round is for warming up and is dropped. One round at least is kept; another one begins
    only if it would end within `budget_s` seconds of `now`, as long as the longest so far.
    """
    shuffle = random.Random(seed)
    samples: tuple[list[S], ...] = tuple([] for _ in points)
    begin = started = now()
    longest = 0.0
    count = -1
    while count < rounds:
        if count > 0 and started - begin + longest > budget_s:
            break
        order = list(range(len(points)))
        shuffle.shuffle(order)
        for index in order:
            sample = measure(points[index])
            if count >= 0:
                samples[index].append(sample)
        ended = now()
        longest, started = max(longest, ended - started), ended
        count += 1
    return Rounds(samples, count)
