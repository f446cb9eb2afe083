"""What a time limit left of a study, in words."""

from __future__ import annotations

import math

from numa_bench.labels import duration_text
from numa_bench.metric_registry import LEAST_REPEATS
from numa_bench.plan.plan import Plan
from numa_bench.plan.time_limit import TimeLimit

#: Share by which an advised time limit is longer than expected. Chosen: predictions are rough.
_MARGIN = 0.1


def describe_limit(plan: Plan, took_s: float | None = None) -> list[str]:
    """Lines about blocks that were cut, and about a block that is too long; empty without any.

    `took_s` is how long the study took; None: it has not run yet.
    """
    limit = plan.time_limit
    if limit is None:
        return []
    allowed = duration_text(limit.limit_s)
    lines = []
    if plan.cut:
        kept = len({run.repeat for run in plan.runs})
        took = f"about {duration_text(plan.estimated_s)}"
        if took_s is not None:
            took = f"took {duration_text(took_s)}"
        fit = "fits" if kept == 1 else "fit"
        lines.append(f"{kept} of {limit.repeats} repeats {fit} into {allowed}: {took}")
        if kept < LEAST_REPEATS <= limit.repeats:
            line = f"fewer than {LEAST_REPEATS} repeats give no verdict"
            # Afterwards the command that runs the others is printed.
            lines.append(line if took_s is not None else f"{line}; {_advise_change(plan, limit)}")
    if took_s is None and limit.is_exceeded:
        lines.append(
            f"one repeat takes about {duration_text(limit.block_s)}, longer than "
            f"the limit of {allowed}; it runs whole"
        )
    return lines


def _advise_change(plan: Plan, limit: TimeLimit) -> str:
    """Settings with which enough repeats for a verdict are expected to fit."""
    needed_s = LEAST_REPEATS * limit.block_s * (1 + _MARGIN)
    changes = [f"time_limit={math.ceil(needed_s / 60)}m"]
    gpus = len({gpu for cell in plan.cells for gpu in cell.device.gpu_ids})
    enough = int(gpus * limit.limit_s / needed_s)
    if enough:
        changes.append(f"experiment.max_gpus={enough}")
    return f"for {LEAST_REPEATS} use {', '.join(changes)}, or fewer models or placements"
