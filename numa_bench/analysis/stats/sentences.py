"""Sentences of verdicts: changes, what could be detected, advice on repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numa_bench.analysis.stats.contrasts import MOST_REPEATS
from numa_bench.analysis.stats.permutation import ALPHA
from numa_bench.analysis.stats.tables import TARGET

#: A row of a table, by column.
Row = Mapping[Any, Any]
#: Repeats advised where the noise is not known yet. A convention: 5 x 5 runs are the smallest
#: design of benchmarks/honesty.py that finds most effects of 3 % under realistic noise.
FIRST_REPEATS = 5


def describe_change(row: Row) -> str:
    """ "7.2 % slower (95 % CI 6.1 to 8.3, n = 5 x 5)"; `row` has ratio, low, high, n, n_base.

    For latency the words are "longer" and "shorter".
    """
    up = row["ratio"] > 1
    # Written as the size of a fall, an interval's ends change places.
    low, high = (row["low"] - 1, row["high"] - 1) if up else (1 - row["high"], 1 - row["low"])
    time = str(row.get("metric", "")).startswith("latency_")
    word = ("longer" if up else "shorter") if time else ("faster" if up else "slower")
    size = abs(row["ratio"] - 1)
    interval = f"95 % CI {format_percent(low)} to {format_percent(high)}"
    return f"{format_percent(size)} % {word} ({interval}, n = {row['n']} x {row['n_base']})"


def describe_detectable(detectable: float) -> str:
    """What a study without a difference rules out; `detectable` is a fraction."""
    return f"a change of {format_percent(detectable)} % or more would have been detected"


def describe_no_difference(row: Row, name: str) -> str:
    """A verdict of no difference, with the change that is ruled out."""
    detectable = describe_detectable(row["detectable"])
    return f"{name}: no difference; {detectable}{describe_insignificant(row)}"


def describe_equal(row: Row, name: str, target: float) -> str:
    """A change whose interval is within the effect of interest: two one-sided tests show it."""
    low, high = (f"{100 * (row[end] - 1):+.1f}" for end in ("low", "high"))
    size = format_percent(target)
    return f"{name}: equal within {size} % (95 % CI {low} to {high} %){describe_insignificant(row)}"


def describe_insignificant(row: Row) -> str:
    """An observed change that would count on its own but is not significant in its family."""
    if row["low"] <= 1 <= row["high"] and row["p_value"] >= ALPHA:
        return ""
    size = row["family_size"]
    why = f"not significant among {size} comparisons" if size > 1 else "not significant"
    return f"; observed: {describe_change(row)}, {why}"


def advise_repeats(needed: int | None, target: float) -> str:
    """What to do about too few runs; `needed` None: no number of repeats is enough."""
    size = format_percent(target)
    if needed is None:
        return (
            f"too noisy: even {MOST_REPEATS} repeats would not show {size} %; find out what "
            "disturbs the runs"
        )
    return f"not enough runs: repeat with experiment.repeats={needed} for {size} %"


def describe_too_few(row: Row, name: str) -> str:
    """Why a comparison has no verdict."""
    n, n_base = int(row["n"]), int(row["n_base"])
    if min(n, n_base) == 0:
        side = "local" if n_base == 0 else name
        return f"{name}: no verdict, no valid run of {side}; see the excluded runs"
    runs = "one run" if min(n, n_base) == 1 else f"{min(n, n_base)} runs"
    advice = f"repeat with experiment.repeats={FIRST_REPEATS} or more"
    return f"{name}: no verdict from {runs}; {advice}"


def format_percent(fraction: float) -> str:
    """A fraction in percent with one decimal; none if it is a whole number of percent."""
    text = f"{100 * fraction:.1f}"
    return text.removesuffix(".0") if fraction in (TARGET, round(fraction, 2)) else text
