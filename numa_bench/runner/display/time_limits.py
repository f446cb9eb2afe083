"""What a time limit left of a study, in words."""

from __future__ import annotations

from numa_bench.labels import duration_text
from numa_bench.plan.plan import Plan


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
        if kept == 1:
            lines.append(
                "one repeat gives no confidence interval; use fewer models or devices "
                "(experiment.max_gpus), or a longer time_limit"
            )
    if took_s is None and limit.is_exceeded:
        lines.append(
            f"one repeat takes about {duration_text(limit.block_s)}, longer than "
            f"time_limit={allowed.replace(' ', '')}; it runs whole"
        )
    return lines
