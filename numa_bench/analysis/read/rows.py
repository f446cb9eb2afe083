"""From one record to one row of the table of runs, and the keys that say what may be pooled."""

from __future__ import annotations

import hashlib
import json
from sys import intern
from typing import Any

from numa_bench.analysis.read.commands import describe_command
from numa_bench.analysis.read.sets import describe_set
from numa_bench.analysis.read.studies import Study
from numa_bench.labels import (
    MIXED,
    add_affinity,
    device_label,
    distance_text,
    memory_label,
    place_distance_text,
    placement_label,
)
from numa_bench.marks import format_marks, warning_code
from numa_bench.metric_registry import find_metric, headline_metric
from numa_bench.pcie import format_link
from numa_bench.records import (
    COMMAND,
    NO_HOST_WORK,
    PIPELINE,
    REGISTERED,
    WHOLE_NODE,
    JsonDict,
    Record,
)

_ENVIRONMENT = {
    "env_kernel": "kernel",
    "env_cpu_model": "cpu_model",
    "env_numa_mode": "numa_mode",
    "env_nvidia_driver": "nvidia_driver",
    "env_python": "python",
    "env_git_commit": "git_commit",
    "env_simulated": "simulated",
}
#: Settings that were added later, with what runs did before they could be chosen.
_OLD_SETTINGS = {
    "attention": "explicit",
    "cuda_graph": False,
    "host_work": NO_HOST_WORK,
    "host_threads": None,
    "host_memory": REGISTERED,
    "min_timed_s": 0.0,
    "min_warmup_s": 0.0,
}
#: The same for the keys of a model. The sizes of a model that is no ViT are null.
_OLD_MODEL: JsonDict = {"target": None, "timm": None, "args": {}, "input_shape": None}


#: Objects of a record that are no columns by themselves.
_NESTED = (
    *("vit_config", "workload_config", "test_config"),
    *("monitor", "warmup", "observed", "versions"),
)


class KeyMaker:
    """Short keys for grouping: hashes of canonical JSON, each computed once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, *parts: object) -> str:
        text = json.dumps(parts, sort_keys=True, default=str)
        if text not in self._known:
            self._known[text] = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._known[text]


def make_row(record: Record, study: Study, keys: KeyMaker) -> JsonDict:
    """One row of the table of runs; `runs.py` says what the columns are."""
    found = study.environments.get(str(record.get("environment")), {})
    # Without the defaults an old run and its repetition of today would be two settings.
    test = {**_OLD_SETTINGS, **record["test_config"]}
    model = {**_OLD_MODEL, **record["vit_config"]}
    warnings = [str(w) for w in record.get("warnings") or ()]
    row: JsonDict = {k: v for k, v in record.items() if k not in _NESTED}
    for prefix, part in (("vit_", {k: _plain(v) for k, v in model.items()}), ("test_", test)):
        # Interned, or every row would hold its own copy of each name.
        row |= {intern(prefix + k): v for k, v in part.items()}
    for sensor, summary in (record.get("monitor") or {}).items():
        if isinstance(summary, dict):
            row[intern(f"monitor_{sensor}_median")] = summary.get("median")
    row |= {column: found.get(key) for column, key in _ENVIRONMENT.items()}
    torch = (found.get("packages") or record.get("versions") or {}).get("torch")
    return row | {
        "profiler": record.get("profiler") or "none",
        "profiler_capture": record.get("profiler_capture"),
        "env_torch": torch,
        "study_dir": study.directory,
        "repeats_history": study.repeats_history,
        "warnings": warnings,
        "marks": format_marks(warnings),
        "host_bound": "host_bound" in map(warning_code, warnings),
        "stages_alone": _has_stages_alone(record),
        **_describe_headline(record),
        **describe_command(record),
        **_describe_place(record),
        **_describe_distance(record),
        **_describe_link(record, found),
        **_make_keys(record, model, test, torch, keys),
    }


def _describe_headline(record: Record) -> JsonDict:
    """The metric by which the run's placements are compared, and whether it counts."""
    config = record["workload_config"]
    headline = headline_metric(record.get("workload"), record["device"], config)
    rate: Any = record.get(headline)
    metric = find_metric(headline, config)
    return {
        "headline": headline,
        "headline_value": rate,
        "headline_unit": intern(metric.unit),
        "lower_is_better": metric.higher_is_better is False,
        "in_statistics": record["status"] == "passed" and rate is not None and rate > 0,
    }


def _identify_headline(record: Record) -> list[object]:
    """What makes the headline metrics of two commands the same quantity."""
    headline = _describe_headline(record)
    return [headline[name] for name in ("headline", "headline_unit", "lower_is_better")]


def _describe_place(record: Record) -> JsonDict:
    """Device and placement in words."""
    together = describe_set(record)
    memory = (record["memory_nodes"], record["memory_policy"])
    affinity = (record["cpu_affinity"], record["cpus"])
    device = device_label(
        record["device"], record["gpu_id"], record["gpu_numa_node"], record["gpu_ids"]
    )
    place = placement_label(record["numa_node"], *memory, *affinity)
    return {
        "device_text": together.device_text or device,
        "placement": add_affinity(record["placement"], *affinity),
        "placement_text": together.placement_text or place,
        "memory_text": memory_label(*memory),
    }


def _describe_distance(record: Record) -> JsonDict:
    """How far the placement is from the device: the greatest distance, and both sides in words.

    None where it is not known, as in studies from before it was recorded.
    """
    cpus = distance_text(record["cpu_distance_class"], record["cpu_distance"])
    memory = distance_text(record["memory_distance_class"], record["memory_distance"])
    # Without a GPU distances are counted from the CPUs.
    if memory and record["device"] != "cuda" and record["cpu_distance_class"] != MIXED:
        cpus = ""
    known = [d for d in (record["cpu_distance"], record["memory_distance"]) if d is not None]
    return {
        "distance": max(known, default=None),
        "distance_text": place_distance_text(cpus, memory) or None,
    }


def _describe_link(record: Record, environment: JsonDict) -> JsonDict:
    """The PCIe link of the run's GPU: the fastest that was read during the run, and its maximum.

    A link drops to a lower generation while its GPU idles, so the fastest reading counts.
    """
    monitor = record.get("monitor") or {}

    def read(prefix: str) -> str | None:
        generation, width = (
            (monitor.get(prefix + name) or {}).get("max") for name in ("generation", "width")
        )
        return intern(format_link(generation, width)) if generation and width else None

    links = environment.get("gpu_links") or {}
    return {
        "pcie_link": read("pcie_"),
        "pcie_link_max": read("pcie_max_") or links.get(str(record["gpu_id"])),
    }


def _make_keys(
    record: Record, model: JsonDict, test: JsonDict, torch: str | None, keys: KeyMaker
) -> JsonDict:
    """What says which runs may be pooled, compared, and taken as repeats of one another."""
    workload = record.get("workload") or PIPELINE
    config = record.get("workload_config") or {}
    group = keys.of(
        record["host"],
        record.get("device"),
        # The model of the GPU and not its UUID: the GPUs of a machine belong to one group.
        record.get("gpu_name"),
        record.get("environment"),
        torch,
        record.get("profiler") or "none",
        record.get("profiler_capture"),
        # A host of one's own is not named, as in records from before it could be shared.
        *(["shared_host"] if record["shared_host"] else []),
        # A pipeline is not named: records from before there were other workloads do not name it.
        *([] if workload == PIPELINE else [workload]),
        # Commands name metrics of their own, and a group is compared by one.
        *(_identify_headline(record) if workload == COMMAND else []),
    )
    together = describe_set(record)
    device = [record.get(k) for k in ("device", "gpu_id", "gpu_uuid", "gpu_numa_node")]
    more = [*([config] if config else []), *together.setting]
    if workload == COMMAND and len(record["gpu_ids"]) > 1:
        more.append(record["gpu_ids"])
    setting = keys.of(group, device, model, test, *more)
    place = [record.get(k) for k in ("numa_node", "memory_nodes", "memory_policy", "placement")]
    place += together.placement
    if record["cpu_affinity"] not in (None, WHOLE_NODE):
        place += [record["cpu_affinity"], record["cpus"]]
    return {
        "workload": workload,
        "workload_key": keys.of(workload, config),
        "group": group,
        "setting": setting,
        "cell": keys.of(setting, place),
    }


def _plain(value: object) -> object:
    """A value that pandas can count and compare: mappings and lists as JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def _has_stages_alone(record: Record) -> bool:
    """Whether the stage times are of stages that ran alone.

    They are on the CPU and with one slot, where nothing overlaps, and in a CUDA graph, whose single
    batches are not timed. Otherwise a run that timed them keeps the pipeline's own times beside
    them; records from before that was done have only these.
    """
    test = record["test_config"]
    serial = record["device"] != "cuda" or test.get("pipeline_depth") == 1
    return serial or bool(test.get("cuda_graph")) or record["h2d_pipelined_ms"] is not None
