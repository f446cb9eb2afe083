"""What the record of a command says beyond its metrics, as columns of the table of runs."""

from __future__ import annotations

from collections import Counter

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
    own: Counter[int] = Counter()
    for kind in _OWN:
        for node, size in (observed.get("memory_at_peak") or {}).get(kind, {}).items():
            own[int(node)] += size
    total = own.total()
    return {
        "command_variant": config.get("variant", 0),
        "command_metrics": tuple(
            (m["name"], m["unit"], m["better"]) for m in config.get("metrics", ())
        ),
        "own_memory_mb": total / 1e6 if total else None,
        "own_memory_shares": {n: own[n] / total for n in sorted(own)} if total else None,
        "processes": observed.get("processes"),
        "escaped_threads": observed.get("escaped_threads"),
    }
