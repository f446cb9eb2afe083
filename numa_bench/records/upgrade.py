"""Stored records and summaries of any schema version as those of the current one.

`specs.SCHEMA_HISTORY` lists the versions. Keys that version 1 did not have at first get a null or
empty value here, so that readers need no `.get`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from numa_bench.metric_registry import METRICS, NAMED
from numa_bench.records.run_parts import JsonDict
from numa_bench.records.run_record import Record, Status
from numa_bench.records.specs import PIPELINE, SCHEMA_VERSION, WHOLE_NODE
from numa_bench.records.summary import Summary

#: From a schema version to the next one. Each changes the copy of a record that it gets.
MIGRATIONS: dict[int, Callable[[JsonDict], None]] = {}

#: Keys that every version has, by type: without them a record is unusable.
_TEXTS = (
    *("study", "run_id", "spec_hash", "host", "device", "memory_policy", "placement"),
    *("vit_name", "precision", "start_time", "stdout_log", "stderr_log"),
)
_OBJECTS = ("vit_config", "test_config")
_INTEGERS = ("repeat", "attempt")
#: Keys that may be missing, with the value that a missing key, or a null one but `monitor`, gets.
_NULLS = (
    *("gpu_id", "gpu_name", "gpu_uuid", "gpu_numa_node", "numa_node", "memory_node", "cpus"),
    *("compile_mode", "profiler_capture", "predicted_bound", "exit_code", "error", "environment"),
    *("nsys_report", "nsys_sqlite", "torch_trace", "scenario", "background"),
    *("distance_class", "cpu_distance_class", "memory_distance_class"),
    *("cpu_distance", "memory_distance", "lock_wait_s"),
)
#: Labels of placements with CPUs and memory apart, as they were called at first.
_OLD_LABELS = {"remote_cpu": "remote/local", "remote_memory": "local/remote"}
_EMPTY_OBJECTS = ("workload_config", "warmup", "observed", "versions", "monitor")


def upgrade_record(raw: object) -> Record:
    """A stored record as one of the current schema version; `raw` is not changed.

    Metrics are finite numbers or None. Raises ValueError with the reason, in one line, when the
    record is newer than this program or cannot be used.
    """
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    record = _migrate(raw)
    _check_required(record)
    for name in (*METRICS, *(key for key in record if key.startswith(NAMED))):
        record[name] = _finite_number(name, record.get(name))
    return cast(Record, _fill_missing(record))


def complete_summary(raw: Mapping[str, Any]) -> Summary:
    """A stored summary with all of its keys: what is missing or of another type is null or empty.

    A summary only describes; a damaged one must not make the runs of its study unusable.
    """

    def value(name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        found = raw.get(name)
        return found if isinstance(found, kind) and not isinstance(found, bool) else default

    environments: JsonDict = value("environments", dict, {})
    return {
        "study": value("study", str, ""),
        "planned": value("planned", int, None),
        "counts": value("counts", dict, {}),
        "success_rate": value("success_rate", (int, float), None),
        "started": value("started", str, None),
        "updated": value("updated", str, None),
        "runs_duration_s": value("runs_duration_s", (int, float), 0.0),
        "interrupted": raw.get("interrupted") is True,
        "time_limit": value("time_limit", dict, None),
        "repeats_history": [n for n in value("repeats_history", list, []) if type(n) is int],
        "order": value("order", str, None),
        "order_seed": value("order_seed", int, None),
        "run_order": [str(item) for item in value("run_order", list, [])],
        "conditions": [str(item) for item in value("conditions", list, [])],
        "warnings": [str(item) for item in value("warnings", list, [])],
        "profiler": value("profiler", dict, {}),
        "allocation": value("allocation", dict, {}),
        "machine": value("machine", dict, {}),
        "environments": {k: v for k, v in environments.items() if isinstance(v, dict)},
    }


def _migrate(raw: JsonDict) -> JsonDict:
    """A copy of a record, migrated version by version to the current one."""
    version = raw.get("schema_version")
    if not isinstance(version, int):
        raise ValueError("schema_version is missing")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"schema_version {version} is newer than {SCHEMA_VERSION}, the latest that this "
            f"numa_bench reads; update it to a version that reads schema_version {version}"
        )
    record = dict(raw)
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise ValueError(
                f"schema_version {version} is too old: it cannot be converted to {version + 1}"
            )
        MIGRATIONS[version](record)
        version += 1
    record["schema_version"] = SCHEMA_VERSION
    return record


def _check_required(record: JsonDict) -> None:
    for name in _TEXTS:
        if not isinstance(record.get(name), str):
            raise ValueError(f"{name} is missing or not a text")
    if record.get("status") not in {status.value for status in Status}:
        raise ValueError(f"status {record.get('status')!r} is unknown")
    for name in _OBJECTS:
        if not isinstance(record.get(name), dict):
            raise ValueError(f"{name} is missing or not an object")
    for name in _INTEGERS:
        if not isinstance(record.get(name), int):
            raise ValueError(f"{name} is missing or not a number")
    if _finite_number("duration_s", record.get("duration_s")) is None:
        raise ValueError("duration_s is missing or not a number")


def _finite_number(name: str, value: Any) -> float | None:
    """A measured value that can be computed with: a finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is not a number")
    return value if math.isfinite(value) else None


def _fill_missing(record: JsonDict) -> JsonDict:
    """A complete record. Missing values that follow from others are derived, not left empty."""
    node = record.get("memory_node")
    defaults: JsonDict = {
        **dict.fromkeys(_NULLS),
        **{name: {} for name in _EMPTY_OBJECTS},
        "cpu_affinity": None if record.get("numa_node") is None else WHOLE_NODE,
        "memory_nodes": [] if node is None else [node],
        "compile_model": bool(record["test_config"].get("compile_model")),
        "profiler": "none",
        "workload": PIPELINE,
        "success": record["status"] == Status.PASSED.value,
        "workers": [],
        # Before there were locks nothing of ours was meant to run beside a measurement.
        "shared_host": False,
        "warnings": [],
    }
    # A null `monitor` is not missing: no sensor was read inside the timed window.
    present = {
        name: value for name, value in record.items() if value is not None or name == "monitor"
    }
    filled = {**record, **defaults, **present}
    filled["placement"] = _OLD_LABELS.get(filled["placement"], filled["placement"])
    filled["warnings"] = [str(warning) for warning in filled["warnings"]]
    return filled
