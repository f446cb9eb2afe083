"""What the record of a command says beyond its metrics, as columns of the table of runs."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from numa_bench.metric_registry import HIGHER, LOWER, NAMED, list_named_metrics
from numa_bench.records import COMMAND, JsonDict, Record

#: Memory that is the program's own, and follows its policy.
_OWN = ("anonymous", "shared")
_NOTHING: JsonDict = {
    "command_variant": None,
    "command_metrics": None,
    "own_memory_mb": None,
    "own_memory_shares": None,
    "processes": None,
    "escaped_threads": None,
}


def describe_command(record: Record) -> JsonDict:
    """The number of its variant, its metrics, its memory by node, processes and escaped threads.

    `command_metrics` are pairs of key and definition; `own_memory_shares` maps nodes to the share
    of own memory there at the peak. All are None for other workloads.
    """
    if record.get("workload") != COMMAND:
        return dict(_NOTHING)
    config, observed = record["workload_config"], record["observed"]
    own = _count_own_memory(observed.get("memory_at_peak"))
    total = own.total()
    return {
        "command_variant": _read_count(config.get("variant")) or 0,
        "command_metrics": tuple(
            (key.removeprefix(NAMED), metric.unit, HIGHER if metric.higher_is_better else LOWER)
            for key, metric in list_named_metrics(config).items()
        ),
        "own_memory_mb": total / 1e6 if total else None,
        "own_memory_shares": {n: own[n] / total for n in sorted(own)} if total else None,
        "processes": _read_count(observed.get("processes")),
        "escaped_threads": _read_count(observed.get("escaped_threads")),
    }


def select_commands(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of commands in a table of runs, which without any run has no columns."""
    return frame if frame.empty else frame[frame["workload"] == COMMAND]


def _read_count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _count_own_memory(peak: object) -> Counter[int]:
    """Bytes by node; what a damaged record has in their place is left out."""
    own: Counter[int] = Counter()
    for kind in _OWN:
        sizes = peak.get(kind) if isinstance(peak, dict) else None
        for node, size in sizes.items() if isinstance(sizes, dict) else ():
            if str(node).isdecimal() and isinstance(size, int):
                own[int(node)] += size
    return own
