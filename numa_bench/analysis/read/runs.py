"""From study directories to one table, one row per run.

    from numa_bench.analysis import load_runs
    runs = load_runs("outputs", "numa_study")
    runs[runs.in_statistics].groupby("placement").throughput_samples_per_s.median()

Columns: every key of a record (see numa_bench/records/run_record.py); `vit_*` and `test_*`, the
model's and the test's settings; `monitor_<sensor>_median`; `env_*`, the environment as
experiment_summary.json describes it; and
- `study_dir`: the directory, to which a record's paths are relative; `repeats_history`: the repeats
  after which that study's results may have been looked at;
- `workload`: what the run did; `headline` names the metric by which its placements are compared
  (throughput of pipelines, see metric_registry), `headline_value` is its value, `headline_unit` its
  unit, and `lower_is_better` its direction; `workload_key` is equal for runs of workloads with
  equal settings; `metric_*` are those that a command's settings name;
- `in_statistics`: the run passed and has that metric; `marks`: the letters of its warnings;
- `host_bound`: the GPU waited for the host (the warning of that code);
- `stages_alone`: stage times and GB/s are of stages that ran alone; else copies in both directions
  shared the link meanwhile;
- `group`: host, GPU model, environment, profiler, workload; nothing is ever pooled across groups;
- `setting`: group, device, model and test settings: all but placement and repeat;
- `workers`: those of a set; sets of different workers or loads are different settings;
- `cell`: setting and placement; the runs of one cell are repeats of one another;
- `placement`: the record's, with the CPU affinity in brackets unless that is the whole node;
- `distance`: the greatest SLIT distance of CPUs and memory from the device; `distance_text` has
  both with their classes, "other socket (distance 32)";
- `pcie_link`, `pcie_link_max`: the fastest link of the GPU that was read during the run, and the
  fastest that GPU and slot can reach, "PCIe 5.0 x16";
- `device_text`, `model_text`, `placement_text`, `memory_text`: names for tables.

A metric that was not measured is NaN; other missing values are None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from numa_bench.analysis.read.model_texts import model_texts
from numa_bench.analysis.read.rows import KeyMaker, make_row
from numa_bench.analysis.read.series import check_series
from numa_bench.analysis.read.studies import (
    Problem,
    Study,
    expand_paths,
    find_results,
    read_records,
    read_study,
)
from numa_bench.errors import StoreError
from numa_bench.metric_registry import METRICS, NAMED
from numa_bench.records import (
    VIT_SIZES,
    JsonDict,
    Record,
)

__all__ = ["Filters", "Loaded", "Problem", "Study", "find_results", "load_runs", "load_studies"]

_SIZES = tuple(f"vit_{name}" for name in VIT_SIZES)
_NUMBERS = (
    *("repeat", "gpu_id", "gpu_numa_node", "numa_node", "memory_node", "attempt", "exit_code"),
    *("cpu_distance", "memory_distance", "distance"),
)


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
        gpu |= {str(number) for number in record["gpu_ids"]}
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
    keys = KeyMaker()
    for path in paths:
        records, skipped = read_records(path)
        problems += skipped
        # Nothing readable: its summary alone would be a study without runs.
        if not records and skipped:
            continue
        study, skipped = read_study(path, records)
        problems += skipped
        problems += check_series(records, path.parent)
        studies.append(study)
        records.reverse()
        while records:  # a record is released once it is a row: large studies fill memory
            record = records.pop()
            if wanted.keeps_record(record):
                rows.append(make_row(record, study, keys))
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


def _frame(rows: Iterable[JsonDict]) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(list(rows))
    named = [str(column) for column in frame if str(column).startswith(NAMED)]
    for column in (*METRICS, "headline_value", *named, *_NUMBERS):
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
