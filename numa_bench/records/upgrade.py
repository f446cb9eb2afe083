"""Stored records and summaries of any schema version as those of the current one.

`specs.SCHEMA_HISTORY` lists the versions. Keys that version 1 did not have at first get a null or
empty value here, so that readers need no `.get`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from numa_bench.metric_registry import METRICS, NAMED
from numa_bench.records.checks import (
    MOST_NUMBER,
    Check,
    find_mismatch,
    find_wrong_value,
    is_integer,
    is_number,
    make_check,
    make_checks,
)
from numa_bench.records.run_parts import JsonDict, TestSpec, VitSpec
from numa_bench.records.run_record import Record, Status
from numa_bench.records.specs import PIPELINE, SCHEMA_VERSION, WHOLE_NODE
from numa_bench.records.summary import Summary, TimeLimitSummary

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
#: What a record's values have to be. A sensor may have had no reading.
_CHECKS: dict[str, Check] = {
    **make_checks(Record),
    "monitor": make_check(dict[str, dict[str, float | None]] | None),
    "versions": make_check(dict[str, str | None]),
}
_ANYTHING = make_check(Any)
#: The parts of an environment that readers look into; others are only shown.
_ENVIRONMENT: dict[str, Check] = {
    **dict.fromkeys(("kernel", "cpu_model", "numa_mode", "nvidia_driver"), make_check(str)),
    **dict.fromkeys(
        ("cuda_driver", "python", "git_commit", "simulated", "host", "id"), make_check(str)
    ),
    "packages": make_check(dict[str, str | None]),
    "gpu_links": make_check(dict[str, str | None]),
    "cpus": make_check(int),
    "gpus": make_check(list[dict[str, Any]]),
}
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
    filled = _fill_missing(record)
    _check_types(filled)
    return cast(Record, filled)


def complete_summary(raw: Mapping[str, Any]) -> Summary:
    """A stored summary with all of its keys: what is missing or of another type is null or empty.

    A summary only describes; a damaged one must not make the runs of its study unusable.
    """

    def value(name: str, hint: Any, default: Any) -> Any:
        found = raw.get(name)
        return found if make_check(hint)(found) else default

    return {
        "study": value("study", str, ""),
        "planned": value("planned", int, None),
        "counts": value("counts", dict[str, int], {}),
        "success_rate": value("success_rate", float, None),
        "started": value("started", str, None),
        "updated": value("updated", str, None),
        "runs_duration_s": value("runs_duration_s", float, 0.0),
        "interrupted": raw.get("interrupted") is True,
        "time_limit": value("time_limit", TimeLimitSummary, None),
        "repeats_history": list(filter(is_integer, value("repeats_history", list[Any], []))),
        "order": value("order", str, None),
        "order_seed": value("order_seed", int, None),
        "run_order": [str(item) for item in value("run_order", list[Any], [])],
        "jobs": value("jobs", list[list[str]], []),
        "conditions": [str(item) for item in value("conditions", list[Any], [])],
        "warnings": [str(item) for item in value("warnings", list[Any], [])],
        "profiler": value("profiler", dict[str, Any], {}),
        "allocation": value("allocation", dict[str, Any], {}),
        "machine": complete_environment(value("machine", dict[str, Any], {})),
        "environments": {
            name: complete_environment(item)
            for name, item in value("environments", dict[str, Any], {}).items()
            if isinstance(item, dict)
        },
    }


def complete_environment(raw: JsonDict) -> JsonDict:
    """A stored environment without the values that have another type than readers expect."""
    return {
        name: value
        for name, value in raw.items()
        if value is None or _ENVIRONMENT.get(name, _ANYTHING)(value)
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
    if record.get("status") not in [status.value for status in Status]:
        raise ValueError(f"status {str(record.get('status'))[:40]!r} is unknown")
    for name in _OBJECTS:
        if not isinstance(record.get(name), dict):
            raise ValueError(f"{name} is missing or not an object")
    for name in _INTEGERS:
        if not is_integer(record.get(name)):
            raise ValueError(f"{name} is missing or not a number")
    if not is_number(record.get("duration_s")):
        raise ValueError("duration_s is missing or not a number")
    # It is the name of files and of a directory.
    if record["run_id"] in ("", ".", "..") or not set(record["run_id"]).isdisjoint("/\0"):
        raise ValueError("run_id is not a name")


def _check_types(record: JsonDict) -> None:
    """Raise ValueError for a value of another type than the record's annotations declare."""
    wrong = find_mismatch(record, _CHECKS)
    if wrong is not None:
        raise ValueError(f"{wrong} is of the wrong type")
    for name, kind in (("vit_config", VitSpec), ("test_config", TestSpec)):
        wrong = find_wrong_value(record[name], kind)
        if wrong is not None:
            raise ValueError(f"{name}.{wrong[:40]} is of the wrong type")


def _finite_number(name: str, value: Any) -> float | None:
    """A measured value that can be computed with: a finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if not is_number(value):
        raise ValueError(f"{name} is larger than {MOST_NUMBER:g}")
    return value


def _fill_missing(record: JsonDict) -> JsonDict:
    """A complete record. Missing values that follow from others are derived, not left empty."""
    node, gpu = record.get("memory_node"), record.get("gpu_id")
    defaults: JsonDict = {
        **dict.fromkeys(_NULLS),
        **{name: {} for name in _EMPTY_OBJECTS},
        "cpu_affinity": None if record.get("numa_node") is None else WHOLE_NODE,
        "memory_nodes": [] if node is None else [node],
        "gpu_ids": [gpu] if is_integer(gpu) else [],
        "compile_model": bool(record["test_config"].get("compile_model")),
        "profiler": "none",
        "workload": PIPELINE,
        "success": record["status"] == Status.PASSED.value,
        "workers": [],
        "sweep_jobs": [],
        "sweep_overrides": [],
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
    if isinstance(filled["warnings"], list):
        filled["warnings"] = [str(warning) for warning in filled["warnings"]]
    return filled
