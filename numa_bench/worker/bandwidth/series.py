"""Points of a bandwidth run, sampled in turn, so that a drift of the machine meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from numa_bench.records import JsonDict

#: A sample takes about so long: far more than starting a team, far less than a drift.
SAMPLE_S = 0.05
_LEAST_SAMPLE_S = 0.002


class Point(Protocol):
    """What is measured again and again; one sample takes about what `calibrate` is asked for."""

    @property
    def threads(self) -> int:
        """How many threads take part."""

    def calibrate(self, seconds: float) -> None: ...

    def sample(self) -> float: ...


@dataclass
class SeriesPoint:
    """One point of the series, and its samples so far.

    `unit` is gb_per_s or latency_ns, and `note` what else the record says of it.
    """

    operation: str
    size_bytes: int
    memory: str
    unit: str
    point: Point
    note: JsonDict = field(default_factory=dict)
    samples: list[float] = field(default_factory=list)

    def to_dict(self) -> JsonDict:
        """The point as a record has it: the median under its unit's name, and all samples."""
        return {
            "operation": self.operation,
            "size_bytes": self.size_bytes,
            "memory": self.memory,
            self.unit: statistics.median(self.samples),
            "samples": self.samples,
            "threads": self.point.threads,
            **self.note,
        }


def sample_in_turn(points: Sequence[SeriesPoint], rounds: int, budget_s: float) -> int:
    """Take a sample of every point, again and again; return the number of complete rounds.

    There are `rounds` of them, fewer when another would pass `budget_s`, and at least one.
    """
    begin = time.monotonic()
    # Half of the time: a pass over a large array may take longer than a sample should.
    share = budget_s / 2 / (len(points) * (rounds + 1))
    for point in points:
        point.point.calibrate(min(SAMPLE_S, max(_LEAST_SAMPLE_S, share)))
    for done in range(rounds):
        round_begin = time.monotonic()
        for point in points:
            point.samples.append(point.point.sample())
        now = time.monotonic()
        if now + (now - round_begin) > begin + budget_s:
            return done + 1
    return rounds
