"""From study directories to one table, one row per run.

    from numa_bench.analysis import load_runs
    runs = load_runs("outputs", "numa_study")
    runs[runs.in_statistics].groupby("placement").throughput_samples_per_s.median()

Columns: every key of a record (see numa_bench/records/run_record.py); `vit_*` and `test_*`, the
model's and the test's settings; `monitor_<sensor>_median`; `env_*`, the environment as
experiment_summary.json describes it; and
- `study_dir`: the directory, to which a record's paths are relative;
- `workload`: what the run did; `headline` names the metric by which its placements are compared
  (throughput of pipelines, see metric_registry), `headline_value` is its value; `workload_key` is
  equal for runs of workloads with equal settings;
- `in_statistics`: the run passed and has that metric; `marks`: the letters of its warnings;
- `host_bound`: the GPU waited for the host (the warning of that code);
- `stages_alone`: stage times and GB/s are of stages that ran alone; else copies in both directions
  shared the link meanwhile;
- `group`: host, GPU model, environment, profiler, workload; nothing is ever pooled across groups;
- `setting`: group, device, model and test settings: all but placement and repeat;
- `workers`: those of a set; sets of different workers or loads are different settings;
- `cell`: setting and placement; the runs of one cell are repeats of one another;
- `placement`: the record's, with the CPU affinity in brackets unless that is the whole node;
- `device_text`, `model_text`, `placement_text`, `memory_text`: names for tables.

A metric that was not measured is NaN; other missing values are None.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.read.model_texts import model_texts
from numa_bench.analysis.read.sets import describe_set
from numa_bench.analysis.read.studies import (
    Problem,
    Study,
    expand_paths,
    find_results,
    read_records,
    read_study,
)
from numa_bench.errors import StoreError
from numa_bench.labels import add_affinity, device_label, memory_label, placement_label
from numa_bench.marks import format_marks, warning_code
from numa_bench.metric_registry import METRICS, headline_metric
from numa_bench.records import (
    NO_HOST_WORK,
    PIPELINE,
    REGISTERED,
    VIT_SIZES,
    WHOLE_NODE,
    JsonDict,
    Record,
)

__all__ = ["Filters", "Loaded", "Problem", "Study", "find_results", "load_runs", "load_studies"]

_ENVIRONMENT = {
    "env_kernel": "kernel",
    "env_cpu_model": "cpu_model",
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
_SIZES = tuple(f"vit_{name}" for name in VIT_SIZES)
_NUMBERS = ("repeat", "gpu_id", "gpu_numa_node", "numa_node", "memory_node", "attempt", "exit_code")


@dataclass(frozen=True)
class Filters:
    """Which runs to keep; an empty filter or None keeps all. Texts must be equal.

    `date_from` and `date_to` are days of `start_time` (UTC), "2026-01-31", both inclusive; `gpus`
    are numbers, names or UUIDs, or "cpu".
    """

    date_from: str | None = None
    date_to: str | None = None
    hosts: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def keeps_record(self, record: Record) -> bool:
        day = record["start_time"][:10]
        gpu = {str(record.get(key)) for key in ("gpu_id", "gpu_name", "gpu_uuid")}
        gpu = gpu if record.get("device") == "cuda" else {"cpu"}
        return (
            (self.date_from is None or day >= self.date_from)
            and (self.date_to is None or day <= self.date_to)
            and (not self.hosts or record["host"] in self.hosts)
            and (not self.gpus or bool(gpu & set(self.gpus)))
            and (not self.models or record["vit_name"] in self.models)
        )


@dataclass(frozen=True)
class Loaded:
    """All runs, the problems that made files be skipped, and the studies of the runs."""

    frame: pd.DataFrame
    problems: list[Problem] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)


def load_runs(
    source: Path | str | Sequence[Path | str] = "outputs",
    name: str = "all",
    filters: Filters | None = None,
) -> pd.DataFrame:
    """Load stored runs as a table, one row per run; the module lists its columns.

    Files that cannot be read are skipped; `load_studies` returns them with reasons.

    `source` is an output root, of which studies called `name` are taken ("all": all of them), or a
    list of results.json files or study directories. Raises StoreError when there is no study.
    """
    return load_studies(source, name, filters).frame


def load_studies(
    source: Path | str | Sequence[Path | str] = "outputs",
    name: str = "all",
    filters: Filters | None = None,
) -> Loaded:
    """Load stored runs with their studies, and the files that could not be read.

    Raises StoreError when there is no study, or a given path does not exist.
    """
    single = isinstance(source, (str, Path))
    if single and Path(source).is_dir():  # type: ignore[arg-type]
        paths = find_results(source, name)  # type: ignore[arg-type]
    else:
        paths = expand_paths([source] if single else source)  # type: ignore[list-item, arg-type]
    wanted = filters or Filters()
    _check_days(wanted)
    rows: list[JsonDict] = []
    problems: list[Problem] = []
    studies: list[Study] = []
    keys = _Keys()
    for path in paths:
        records, skipped = read_records(path)
        problems += skipped
        # Nothing readable: its summary alone would be a study without runs.
        if not records and skipped:
            continue
        study, skipped = read_study(path, records)
        problems += skipped
        studies.append(study)
        records.reverse()
        while records:  # a record is released once it is a row: large studies fill memory
            record = records.pop()
            if wanted.keeps_record(record):
                rows.append(_row(record, study, keys))
    return Loaded(_frame(rows), problems, studies)


def _check_days(filters: Filters) -> None:
    for key in ("date_from", "date_to"):
        value = getattr(filters, key)
        try:
            good = value is None or f"{pd.Timestamp(value):%Y-%m-%d}" == value
        except ValueError:
            good = False
        if not good:
            raise StoreError(f"{key}={value}: not a day; write it as 2026-01-31")


class _Keys:
    """Short keys for grouping: hashes of canonical JSON, each computed once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, *parts: object) -> str:
        text = json.dumps(parts, sort_keys=True, default=str)
        if text not in self._known:
            self._known[text] = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._known[text]


def _row(record: Record, study: Study, keys: _Keys) -> JsonDict:
    found = study.environments.get(str(record.get("environment")), {})
    torch = (found.get("packages") or record.get("versions") or {}).get("torch")
    profiler = (record.get("profiler") or "none", record.get("profiler_capture"))
    gpu = record.get("gpu_name")
    # The model of the GPU and not its UUID: the GPUs of a machine belong to one group.
    workload = record.get("workload") or PIPELINE
    headline = headline_metric(workload, record["device"])
    rate: Any = record.get(headline)
    # A pipeline is not named: records from before there were other workloads do not name it.
    other = [] if workload == PIPELINE else [workload]
    config = record.get("workload_config") or {}
    group = keys.of(
        record["host"],
        record.get("device"),
        gpu,
        record.get("environment"),
        torch,
        *profiler,
        *other,
    )
    device = [record.get(k) for k in ("device", "gpu_id", "gpu_uuid", "gpu_numa_node")]
    # Without the defaults an old run and its repetition of today would be two settings.
    test = {**_OLD_SETTINGS, **record["test_config"]}
    model = {**_OLD_MODEL, **record["vit_config"]}
    together = describe_set(record)
    more = [*([config] if config else []), *together.setting]
    setting = keys.of(group, device, model, test, *more)
    place = [record.get(k) for k in ("numa_node", "memory_nodes", "memory_policy", "placement")]
    place += together.placement
    affinity = (record["cpu_affinity"], record["cpus"])
    if affinity[0] not in (None, WHOLE_NODE):
        place += affinity
    nested = (
        "vit_config",
        "workload_config",
        "test_config",
        "monitor",
        "warmup",
        "observed",
        "versions",
    )
    device_text = device_label(record["device"], record["gpu_id"], record["gpu_numa_node"])
    memory = (record["memory_nodes"], record["memory_policy"])
    placement_text = placement_label(record["numa_node"], *memory, *affinity)
    monitor = record.get("monitor") or {}
    warnings = [str(w) for w in record.get("warnings") or ()]
    row: JsonDict = {k: v for k, v in record.items() if k not in nested}
    for prefix, part in (("vit_", {k: _plain(v) for k, v in model.items()}), ("test_", test)):
        # Interned, or every row would hold its own copy of each name.
        row |= {intern(prefix + k): v for k, v in part.items()}
    for sensor, summary in monitor.items():
        if isinstance(summary, dict):
            row[intern(f"monitor_{sensor}_median")] = summary.get("median")
    row |= {column: found.get(key) for column, key in _ENVIRONMENT.items()}
    return row | {
        "profiler": profiler[0],
        "profiler_capture": profiler[1],
        "env_torch": torch,
        "study_dir": study.directory,
        "warnings": warnings,
        "marks": format_marks(warnings),
        "host_bound": "host_bound" in map(warning_code, warnings),
        "stages_alone": _has_stages_alone(record),
        "workload": workload,
        "workload_key": keys.of(workload, config),
        "headline": headline,
        "headline_value": rate,
        "in_statistics": record["status"] == "passed" and rate is not None and rate > 0,
        "device_text": together.device_text or device_text,
        "placement": add_affinity(record["placement"], *affinity),
        "placement_text": together.placement_text or placement_text,
        "memory_text": memory_label(*memory),
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
    them; records of before that was done have only these.
    """
    test = record["test_config"]
    serial = record["device"] != "cuda" or test.get("pipeline_depth") == 1
    return serial or bool(test.get("cuda_graph")) or record["h2d_pipelined_ms"] is not None


def _frame(rows: Iterable[JsonDict]) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(list(rows))
    for column in (*METRICS, "headline_value", *_NUMBERS):
        # Older records lack newer metrics: the columns are there anyway, without values.
        values = frame[column] if column in frame else pd.Series(np.nan, frame.index)
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        # pandas's Int64 keeps ids and nodes whole numbers where some are missing.
        frame[column] = numbers.astype("Int64") if column in _NUMBERS else numbers
    for column in _SIZES:
        if column in frame and frame[column].isna().any():
            frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    frame["model_text"] = model_texts(frame)
    return in_order(frame)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Small models before large ones, GPU by GPU, node by node: the order of tables and plots.

    Models that are no ViTs come after the ViTs.
    """
    if frame.empty:
        return frame
    # Grows like the weights of a transformer's layers.
    size = (frame["vit_depth"] * frame["vit_dim"].astype(float) ** 2).astype(float).fillna(np.inf)
    keys = frame[["gpu_id", "numa_node", "memory_node", "repeat"]].assign(size=size)
    order = keys.sort_values(
        ["gpu_id", "size", "numa_node", "memory_node", "repeat"], kind="stable", na_position="first"
    )
    return frame.loc[order.index].reset_index(drop=True)
