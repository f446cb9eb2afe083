"""When warm-up is over: a stated rule with a cap, and a record of whether it was met."""

from __future__ import annotations

import math
import statistics

from numa_bench.records import JsonDict
from numa_bench.records.measuring import LEAST_BLOCK
from numa_bench.worker.pipelines.pipeline import Limits, Pipeline, Window, quiet_collector

#: Warm-up has settled when the median stage time of a block is within this of the block before:
#: above the spread of batch times on a quiet machine (benchmarks/results), below the change that
#: ramping clocks make.
TOLERANCE = 0.05
#: A block lasts at least so long, so that light batches are not warmed up a handful at a time.
BLOCK_S = 0.05
RULE = (
    f"median stage time of two consecutive blocks within {TOLERANCE:.0%}, after warmup_samples and "
    "min_warmup_s, at most warmup_budget_s"
)


def warm_up(
    pipeline: Pipeline,
    batch_size: int,
    least_samples: int,
    budget_s: float,
    least_s: float = 0.0,
    depth: int = 1,
) -> tuple[Window, JsonDict]:
    """Run batches until stage times have settled; return them and what is to be recorded.

    Blocks hold half of `least_samples`, at least LEAST_BLOCK batches and one for each of `depth`
    slots. `least_s` and `budget_s` are seconds; one batch may overrun the budget.
    """
    block = max(LEAST_BLOCK, depth, math.ceil(least_samples / batch_size / 2))
    # With no minimum time (the CPU's default) blocks are counted in batches alone.
    block_s = min(BLOCK_S, least_s)
    done = Window()
    medians: list[float] = []
    settled = False
    with quiet_collector():
        while not settled and done.wall_s < budget_s:
            window = pipeline.run(Limits(block, budget_s - done.wall_s, block_s))
            done.extend(window)
            # The median of a block that the budget cut short is not compared.
            if window.batches >= block:
                medians.append(statistics.median(window.busy_ms()))
            enough = done.batches * batch_size >= least_samples and done.wall_s >= least_s
            settled = enough and has_settled(medians)
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
