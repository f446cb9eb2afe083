"""Two ways to do the same thing, measured in alternation: is one slower, and how sure is that?

Neighbouring windows share the machine's state, so the ratio within a pair is free of slow drift.
Everything but `take_pairs` is pure.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numa_bench.records import JsonDict

#: Of the intervals, as in the rest of the product.
CONFIDENCE = 0.95
#: Pairs whose interval is wider than this, as a ratio of its ends, decide nothing.
WIDEST = 1.1


@dataclass(frozen=True)
class Comparison:
    """Ratios of pairs, their median, and its distribution-free interval, `low` to `high`."""

    ratios: tuple[float, ...]
    median: float
    low: float
    high: float

    @property
    def decides(self) -> bool:
        """Whether the pairs agree well enough to say anything."""
        return self.high <= WIDEST * self.low

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> JsonDict:
        """Plain JSON types."""
        return {
            "median": self.median,
            "interval": [self.low, self.high],
            "ratios": list(self.ratios),
        }


def take_pairs(
    first: Callable[[], float], second: Callable[[], float], count: int
) -> list[tuple[float, float]]:
    """Measure both `count` times, in the order first, second, second, first, first and so on."""
    pairs = []
    for index in range(count):
        if index % 2:
            b = second()
            pairs.append((first(), b))
        else:
            a = first()
            pairs.append((a, second()))
    return pairs


def compare_pairs(pairs: Sequence[tuple[float, float]]) -> Comparison:
    """Ratios of the first value of each pair to its second. Raises ValueError for too few pairs."""
    ratios = tuple(a / b for a, b in pairs)
    return Comparison(ratios, statistics.median(ratios), *find_median_interval(ratios))


def find_median_interval(
    values: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with at least `confidence`.

    It assumes nothing of the distribution (sign test; Conover, Practical Nonparametric Statistics,
    section 3.2). Raises ValueError for fewer values than that needs: 6 at 95 %.
    """
    ordered, n = sorted(values), len(values)
    outside, best = 0.0, None
    for rank in range(n // 2):
        # The probability that the median is below the value of this rank, or above its mirror's.
        outside += 2 * math.comb(n, rank) / 2**n
        if 1 - outside < confidence:
            break
        best = rank
    if best is None:
        raise ValueError(f"{n} pairs give no interval of {confidence:.0%}; take more")
    return ordered[best], ordered[n - 1 - best]
