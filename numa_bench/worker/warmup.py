"""When warm-up is over: a stated rule with a cap, and a record of whether it was met."""

from __future__ import annotations

import math
import statistics

from numa_bench.records import JsonDict
from numa_bench.worker.pipeline import Pipeline, Window

#: Warm-up has settled when the median stage time of a block is within this of the block before.
TOLERANCE = 0.05
LEAST_BLOCK = 3
RULE = (
    f"median stage time of two consecutive blocks within {TOLERANCE:.0%}, "
    "after warmup_samples, at most warmup_budget_s"
)


def warm_up(
    pipeline: Pipeline, batch_size: int, least_samples: int, budget_s: float
) -> tuple[Window, JsonDict]:
    """Run batches until stage times have settled; return them and what is to be recorded.

    Blocks hold a half of `least_samples`, at least LEAST_BLOCK batches. The budget is seconds;
    one batch may overrun it.
    """
    block = max(LEAST_BLOCK, math.ceil(least_samples / batch_size / 2))
    done = Window()
    medians: list[float] = []
    settled = False
    while not settled and done.wall_s < budget_s:
        window = pipeline.run(block, budget_s - done.wall_s)
        done.extend(window)
        if window.batches == block:
            medians.append(statistics.median(window.busy_ms()))
        settled = done.batches * batch_size >= least_samples and has_settled(medians)
    return done, {
        "rule": RULE,
        "settled": settled,
        "batches": done.batches,
        "seconds": done.wall_s,
        "block_medians_ms": medians,
    }


def has_settled(medians: list[float]) -> bool:
    """Whether the last two block medians agree within TOLERANCE of the earlier one."""
    if len(medians) < 2:
        return False
    before, last = medians[-2:]
    return abs(last - before) <= TOLERANCE * before
