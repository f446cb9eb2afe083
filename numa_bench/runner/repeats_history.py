"""Which numbers of repeats a study had when its results could be looked at. Pure.

Whoever looks at results before deciding on more repeats gives chance more opportunities than one,
so the analysis says how often a study was extended.
"""

from __future__ import annotations

from collections.abc import Sequence

from numa_bench.plan.plan import Plan
from numa_bench.records import Record, Status, Summary


def list_completed_repeats(earlier: Summary, records: Sequence[Record]) -> tuple[int, ...]:
    """The planned repeats of the starts of a study that ran all that was planned, in order.

    `earlier` is the summary of the last start, with null values if there was none. Runs that failed
    count as run: their study has results.
    """
    history = tuple(earlier["repeats_history"])
    if not history and earlier["run_order"] and records:
        # A study from before the history was kept: what it has measured is what it planned.
        history = (max(record["repeat"] for record in records) + 1,)
    ended = {r["run_id"] for r in records if r["status"] != Status.INTERRUPTED.value}
    # What an unfinished start planned was no look at the results; its plan is replaced.
    return history if ended.issuperset(earlier["run_order"]) else history[:-1]


def extend_history(completed: Sequence[int], plan: Plan) -> list[int]:
    """The history with the repeats that this plan has, if they are more than those before.

    Blocks that a time limit cut are not among the plan's.
    """
    planned = len({run.repeat for run in plan.runs})
    more = planned > max(completed, default=0)
    return [*completed, *([planned] if more else [])]
