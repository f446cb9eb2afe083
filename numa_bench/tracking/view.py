"""From a study's files to the views that trackers log. Reads only what is stored."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from numa_bench.jsonio import read_object
from numa_bench.labels import add_affinity, format_rate, mode_label, node_label, quantity_label
from numa_bench.metric_registry import METRICS, find_metric, headline_metric, list_named_metrics
from numa_bench.records import COMMAND, JsonDict, Record
from numa_bench.study_files import (
    LOG,
    MIXED,
    RESOLVED_CONFIG,
    RESULTS,
    RUN_RESULT,
    RUNS,
    SUMMARY,
    TOPOLOGY,
    TRACKING,
    read_records,
    read_summary,
)
from numa_bench.study_search import (
    find_job_studies,
    is_sweep,
    read_overrides,
    read_resolved_config,
    read_resolved_jobs,
    sweep_root,
)
from numa_bench.tracking.base import RunView, StudyView

#: Not part of a run's fingerprint: filled in after the run, and not a property of it.
_VOLATILE = ("nsys_sqlite",)
_TAGS = (
    *(
        "study",
        "status",
        "host",
        "device",
        "gpu_name",
        "placement",
        "memory_policy",
        "profiler",
        "repeat",
    ),
    *("distance_class", "cpu_affinity", "environment", "attempt"),
)
_STAGES = ("host_ms", "h2d_ms", "compute_ms", "d2h_ms", "latency_ms")
_OWN_FILES = (RESULTS, SUMMARY, TOPOLOGY, LOG, RESOLVED_CONFIG)


def read_study(directory: Path, *, points: int, max_file_mb: float) -> StudyView:
    """A study as its trackers see it. Raises StoreError when its files cannot be read.

    `points`: most values of a per-batch series; `max_file_mb`: larger files are not logged.
    """
    records = read_records(directory / RESULTS)
    summary = read_summary(directory)
    root = sweep_root(directory)
    jobs = [directory]
    if root != directory:
        jobs = find_job_studies(root)
    everything = [
        record
        for job in jobs
        for record in (records if _is_same(job, directory) else read_records(job / RESULTS))
    ]
    machine = summary["machine"]
    overrides = read_overrides(directory)
    study = records[0]["study"] if records else summary["study"] or directory.name
    # A tracker shows runs below their parent only in the same experiment.
    shared = MIXED if root.parent.name == MIXED else study
    tags = {
        "host": str(machine.get("host", "")),
        "git_commit": str(machine.get("git_commit") or ""),
        "hydra.overrides": " ".join(overrides),
        "directory": str(root),
    }
    common = {name: tags[name] for name in ("git_commit", "hydra.overrides") if tags[name]}
    runs = [_run(directory, record, points, max_file_mb) for record in records]
    return StudyView(
        directory=directory,
        root=root,
        key=_key(root, summary["started"], shared),
        title=_title(root, shared),
        experiment=shared,
        started_s=_seconds(summary["started"]),
        metrics=_study_metrics(everything),
        params=_read_params(directory) if root == directory else {},
        tags={name: value for name, value in tags.items() if value},
        summary=_markdown(shared, everything, tags),
        files=tuple(path for name in _OWN_FILES if (path := directory / name).is_file()),
        runs=tuple(replace(run, tags={**common, **run.tags}) for run in runs),
    )


def _read_params(study: Path) -> dict[str, Any]:
    """The settings of a study; of an interleaved sweep without those in which its jobs differ."""
    config = read_resolved_config(study)
    jobs = read_resolved_jobs(study)
    every = [_flat({**config, "experiment": job["experiment"]}) for job in jobs]
    params = _flat(config)
    return {k: v for k, v in params.items() if all(one.get(k) == v for one in every)}


def _run(directory: Path, record: Record, points: int, max_file_mb: float) -> RunView:
    lasting = {key: value for key, value in record.items() if key not in _VOLATILE}
    text = json.dumps(lasting, sort_keys=True)
    start_s = _seconds(record["start_time"])
    names = (*METRICS, *list_named_metrics(record["workload_config"]))
    metrics: JsonDict = {name: record.get(name) for name in names}
    metrics["duration_s"] = record["duration_s"]
    for sensor, values in (record["monitor"] or {}).items():
        metrics[f"monitor/{sensor}"] = values.get("median")
    params: dict[str, Any] = {
        key: record.get(key)
        for key in ("device", "gpu_id", "gpu_name", "numa_node", "memory_nodes", "memory_policy")
    }
    params |= _flat({"vit": record["vit_config"], "test": record["test_config"]})
    return RunView(
        run_id=record["run_id"],
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
        status=record["status"],
        start_s=start_s,
        end_s=start_s + record["duration_s"],
        params=params,
        metrics={name: float(v) for name, v in metrics.items() if _is_number(v)},
        read_series=partial(_series, directory / RUNS / record["run_id"], points),
        tags=_run_tags(record),
        files=tuple(_files(directory, record, max_file_mb)),
    )


def _run_tags(record: Record) -> dict[str, str]:
    tags = {name: str(record.get(name)) for name in _TAGS if record.get(name) is not None}
    if record["error"]:
        tags["error"] = record["error"].splitlines()[0]
    if record["warnings"]:
        tags["warnings"] = "; ".join(record["warnings"])
    if record["nsys_report"]:
        tags["nsys_report"] = record["nsys_report"]
    if record["torch_trace"]:
        tags["torch_trace"] = record["torch_trace"]
    return tags


def _files(directory: Path, record: Record, max_file_mb: float) -> list[Path]:
    """The profiles of a run, and its logs if it went wrong, without files that are too large."""
    names = [record["nsys_report"], record["torch_trace"]]
    if record["status"] not in ("passed", "waived"):
        names += [record["stdout_log"], record["stderr_log"]]
    paths = [path for name in names if name and (path := find_inside(directory, name))]
    return [path for path in paths if path.stat().st_size <= max_file_mb * 1e6]


def find_inside(directory: Path, name: str) -> Path | None:
    """A file of a study; None if there is none, or if it is not inside the study's directory.

    Records may be of somebody else: a path in them must not send other files to a tracker.
    """
    try:
        path = (directory / name).resolve()
        return path if path.is_relative_to(directory.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # such as a name that is too long
        return None


def _series(run: Path, points: int) -> dict[str, list[tuple[int, float]]]:
    """At most `points` batches of every stage, evenly spaced; the step is the batch's number."""
    samples = read_object(run / RUN_RESULT).get("samples")
    found: dict[str, list[tuple[int, float]]] = {}
    if not isinstance(samples, dict):
        return found
    for name in _STAGES:
        values = samples.get(name, [])
        if not (isinstance(values, list) and all(map(_is_number, values))):
            continue
        step = max(1, -(-len(values) // points)) if points else 0
        if values and step:
            found[f"series/{name}"] = [(i, values[i]) for i in range(0, len(values), step)]
    return found


def _study_metrics(records: list[Record]) -> dict[str, float]:
    counts = Counter(record["status"] for record in records)
    found = {f"runs_{status}": float(count) for status, count in sorted(counts.items())}
    if records:
        found["success_rate"] = counts["passed"] / len(records)
    return found


def _markdown(study: str, records: list[Record], tags: Mapping[str, str]) -> str:
    """The text that trackers show first: a table of medians for each metric that is compared."""
    counts = Counter(record["status"] for record in records)
    ended = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "no run yet"
    lines = [f"**{study}** on {tags.get('host', '?')}: {ended}.", ""]
    for title, cells in _group_headlines(records).items():
        head = f"| device | model | mode | CPU node | placement | runs | {title} (median) |"
        lines += [head, "|" + "---|" * 7]
        lines += [
            f"| {' | '.join(key)} | {len(values)} | {format_rate(statistics.median(values))} |"
            for key, values in cells.items()
        ]
        lines.append("")
    lines += [f"Files: `{tags.get('directory', '')}`. Only runs that passed are counted."]
    return "\n".join(lines)


def _group_headlines(records: list[Record]) -> dict[str, dict[tuple[str, ...], list[float]]]:
    """The values by which placements are compared: by metric with its unit, and by cell."""
    tables: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for record in records:
        config = record["workload_config"]
        name = headline_metric(record["workload"], record["device"], config)
        value = {**record}.get(name)
        if not record["success"] or not isinstance(value, (int, float)):
            continue
        key = (
            f"GPU {'+'.join(map(str, record['gpu_ids']))}" if record["gpu_ids"] else "CPU",
            record["vit_name"],
            mode_label(record["compile_mode"]) if record["workload"] != COMMAND else "-",
            node_label(record["numa_node"]),
            add_affinity(record["placement"], record["cpu_affinity"], record["cpus"]),
        )
        title = f"{quantity_label(name)}, {find_metric(name, config).unit}"
        # A bar would end the cell of a table.
        tables.setdefault(title.replace("|", "/"), {}).setdefault(key, []).append(value)
    return tables


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys; lists of plain values as one text."""
    pairs: list[tuple[object, Any]] = []
    if isinstance(node, Mapping):
        pairs = list(node.items())
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        pairs = list(enumerate(node))
    if pairs:
        return {k: v for key, value in pairs for k, v in _flat(value, f"{prefix}{key}.").items()}
    return {} if node is None or node == {} else {prefix.rstrip("."): node}


def _key(root: Path, started: str | None, study: str) -> str:
    """The permanent name of a study: it survives a resumed start and a move of the directory."""
    if is_sweep(root):
        return f"sweep/{study}/{root.name}"
    first = read_object(root / TRACKING).get("key")
    return str(first or f"study/{study}/{started or root.name}")


def _title(root: Path, study: str) -> str:
    if is_sweep(root):
        return f"{study} sweep {root.name}"
    return f"{study} {root.parent.name} {root.name}"


def _is_same(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # neither NaN nor an integer that no float can hold


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError, OSError):  # no date, or one that no clock counts
        return 0.0
