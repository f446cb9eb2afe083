"""From a study's files to what trackers are given. Reads only what is stored."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, read_object
from numa_bench.metric_registry import METRICS
from numa_bench.records import JsonDict
from numa_bench.tracking.base import RunView, StudyView

#: Where a study keeps what its trackers were told.
STATE = "tracking.json"
#: Changes between two looks at the same study, and says nothing of the run.
_VOLATILE = ("nsys_sqlite",)
_TAGS = (
    *("status", "host", "device", "gpu_name", "placement", "memory_policy", "profiler", "repeat"),
    *("environment", "attempt"),
)
_STAGES = ("h2d_ms", "compute_ms", "d2h_ms", "latency_ms")
_OWN_FILES = ("results.json", "experiment_summary.json", "topology.json", "experiment.log")


def read_study(directory: Path, *, points: int, max_file_mb: float) -> StudyView:
    """A study as its trackers see it. Raises StoreError when it is none.

    `points`: most values of a per-batch series; `max_file_mb`: larger files stay where they are.
    """
    records = _records(directory / "results.json")
    summary = read_object(directory / "experiment_summary.json")
    root = sweep_root(directory)
    jobs = [directory]
    if root != directory:
        jobs = sorted(path.parent for path in root.glob("*/results.json"))
    everything = [
        record
        for job in jobs
        for record in (records if job == directory else _records(job / "results.json"))
    ]
    machine = summary.get("machine", {})
    overrides = _overrides(root, directory)
    study = str(records[0]["study"] if records else summary.get("study", directory.name))
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
        key=_key(root, summary, study),
        title=_title(root, study),
        experiment=study,
        started_s=_seconds(summary.get("started")),
        metrics=_study_metrics(everything),
        params=_flat(_resolved(directory)) if root == directory else {},
        tags={name: value for name, value in tags.items() if value},
        summary=_markdown(study, everything, tags),
        files=tuple(
            path
            for name in (*_OWN_FILES, ".hydra/config_resolved.yaml")
            if (path := directory / name).is_file()
        ),
        runs=tuple(replace(run, tags={**common, **run.tags}) for run in runs),
    )


def sweep_root(directory: Path) -> Path:
    """The directory of the sweep that a study is a job of, else its own."""
    above = directory.parent
    return above if directory.name.isdigit() and (above / "multirun.yaml").is_file() else directory


def _run(directory: Path, record: JsonDict, points: int, max_file_mb: float) -> RunView:
    told = {key: value for key, value in record.items() if key not in _VOLATILE}
    text = json.dumps(told, sort_keys=True)
    start_s = _seconds(record["start_time"])
    metrics: JsonDict = {name: record.get(name) for name in METRICS}
    metrics["duration_s"] = record["duration_s"]
    for sensor, values in (record.get("monitor") or {}).items():
        metrics[f"monitor/{sensor}"] = values["median"]
    names = ("vit_config", "test_config")
    params: dict[str, Any] = {
        key: record.get(key)
        for key in ("device", "gpu_id", "gpu_name", "numa_node", "memory_nodes", "memory_policy")
    }
    for name in names:
        params |= _flat({name.removesuffix("_config"): record[name]})
    return RunView(
        run_id=record["run_id"],
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
        status=record["status"],
        start_s=start_s,
        end_s=start_s + record["duration_s"],
        params=params,
        metrics={name: float(v) for name, v in metrics.items() if _is_number(v)},
        read_series=partial(_series, directory / "runs" / record["run_id"], points),
        tags=_run_tags(record),
        files=tuple(_files(directory, record, max_file_mb)),
    )


def _run_tags(record: JsonDict) -> dict[str, str]:
    tags = {name: str(record[name]) for name in _TAGS if record.get(name) is not None}
    if record.get("error"):
        tags["error"] = record["error"].splitlines()[0]
    if record.get("warnings"):
        tags["warnings"] = "; ".join(record["warnings"])
    for name in ("nsys_report", "torch_trace"):
        if record.get(name):
            tags[name] = record[name]
    return tags


def _files(directory: Path, record: JsonDict, max_file_mb: float) -> list[Path]:
    """Logs of a run that went wrong, and profiles, as far as they are small."""
    names = ["nsys_report", "torch_trace"]
    if record["status"] not in ("passed", "waived"):
        names += ["stdout_log", "stderr_log"]
    paths = [directory / record[name] for name in names if record.get(name)]
    return [path for path in paths if path.is_file() and path.stat().st_size <= max_file_mb * 1e6]


def _series(run: Path, points: int) -> dict[str, list[tuple[int, float]]]:
    """At most `points` batches of every stage, evenly spaced; the step is the batch's number."""
    samples = read_object(run / "result.json").get("samples", {})
    found = {}
    for name in _STAGES:
        values = samples.get(name, [])
        step = max(1, -(-len(values) // points)) if points else 0
        if values and step:
            found[f"series/{name}"] = [(i, values[i]) for i in range(0, len(values), step)]
    return found


def _study_metrics(records: list[JsonDict]) -> dict[str, float]:
    counts = Counter(record["status"] for record in records)
    found = {f"runs_{status}": float(count) for status, count in sorted(counts.items())}
    if records:
        found["success_rate"] = counts["passed"] / len(records)
    return found


def _markdown(study: str, records: list[JsonDict], tags: Mapping[str, str]) -> str:
    """What a person sees first: median throughput, model by model, placement by placement."""
    counts = Counter(record["status"] for record in records)
    told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "no run yet"
    lines = [f"**{study}** on {tags.get('host', '?')}: {told}.", ""]
    cells: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        if record["success"] and _is_number(record["throughput_samples_per_s"]):
            gpu = "CPU" if record["gpu_id"] is None else f"GPU {record['gpu_id']}"
            node = "any" if record["numa_node"] is None else str(record["numa_node"])
            compiled = record["compile_mode"] or "eager"
            key = (gpu, record["vit_name"], compiled, node, record["placement"])
            cells.setdefault(key, []).append(record["throughput_samples_per_s"])
    if cells:
        head = "| device | model | mode | CPU node | placement | runs | samples/s (median) |"
        lines += [head, "|" + "---|" * 7]
        lines += [
            f"| {' | '.join(key)} | {len(values)} | {statistics.median(values):,.1f} |"
            for key, values in cells.items()
        ]
    lines += ["", f"Files: `{tags.get('directory', '')}`. Only runs that passed are counted."]
    return "\n".join(lines)


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


def _key(root: Path, summary: JsonDict, study: str) -> str:
    """The same for ever, also when the directory is moved: name and first moment of the study."""
    if (root / "multirun.yaml").is_file():
        return f"sweep/{study}/{root.name}"
    first = read_object(root / STATE).get("key")
    return str(first or f"study/{study}/{summary.get('started') or root.name}")


def _title(root: Path, study: str) -> str:
    if (root / "multirun.yaml").is_file():
        return f"{study} sweep {root.name}"
    return f"{study} {root.parent.name} {root.name}"


def _overrides(root: Path, directory: Path) -> list[str]:
    path = directory / ".hydra" / "overrides.yaml"
    if root != directory:
        found = _yaml(root / "multirun.yaml")
        task = found.get("hydra", {}).get("overrides", {}).get("task")
        return [str(item) for item in task or []]
    try:
        loaded = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return []
    return [str(item) for item in loaded or []]


def _resolved(directory: Path) -> JsonDict:
    return _yaml(directory / ".hydra" / "config_resolved.yaml")


def _yaml(path: Path) -> JsonDict:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _records(path: Path) -> list[JsonDict]:
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is no study's results: {error}") from error
    if not isinstance(found, list) or not all(isinstance(r, dict) and "run_id" in r for r in found):
        raise StoreError(f"{path} is no study's results: not an array of records")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
