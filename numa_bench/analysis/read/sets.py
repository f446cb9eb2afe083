"""What identifies the record of a set of workers among others. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from numa_bench.records import MEASURED, Record, WorkerValues

NO_LOAD = "none"


@dataclass(frozen=True)
class SetKeys:
    """Parts of a record's keys; all empty for a run of one worker that is no set.

    `setting` is equal for sets of the same workers beside the same load, which differ in placement
    alone; `placement` is where each worker was.
    """

    setting: list[object] = field(default_factory=list)
    placement: list[object] = field(default_factory=list)
    device_text: str = ""
    placement_text: str = ""


def describe_set(record: Record) -> SetKeys:
    """The keys of a record; a GPU is a worker wherever it is placed, a CPU worker where it runs."""
    if record["scenario"] is None:
        return SetKeys()
    workers, gpu = list_measured(record), record["device"] == "cuda"
    who = [worker["gpu_id"] if gpu else worker["name"] for worker in workers]
    load = record["background"] or NO_LOAD
    beside = "" if load == NO_LOAD else f" + {load.replace('_', ' ')} load"
    several = len(workers) > 1
    scenario = record["scenario"].replace("_", " ")
    kind = "GPUs" if gpu else "CPU workers"
    return SetKeys(
        setting=["set", who, load],
        placement=[[[w["numa_node"], w["memory_node"]] for w in workers]],
        device_text=f"{len(workers)} {kind}{beside}" if several else "",
        placement_text=f"{scenario}{beside}" if several or beside else "",
    )


def list_measured(record: Record) -> list[WorkerValues]:
    """The workers of a set whose throughput counts."""
    return [worker for worker in record["workers"] if worker["role"] == MEASURED]
