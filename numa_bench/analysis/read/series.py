"""The series of bandwidth runs, read from each run's result when a question asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.read.studies import Problem
from numa_bench.errors import describe_exception
from numa_bench.jsonio import read_json
from numa_bench.records import BANDWIDTH, Record
from numa_bench.redaction import clean_text
from numa_bench.study_files import run_paths

#: Columns of the runs that a point keeps.
_RUN = (
    "group", "setting", "cell", "device", "device_text", "gpu_id", "gpu_numa_node", "numa_node",
    "memory_node", "placement", "placement_text", "run_id", "study_dir", "repeat", "marks",
)  # fmt: skip
SERIES_COLUMNS = (
    *_RUN, "operation", "size_bytes", "memory", "gb_per_s", "latency_us", "timed_by", "samples",
)  # fmt: skip
_QUANTITIES = ("size_bytes", "gb_per_s", "latency_us", "latency_ns")
#: Beyond any quantity of a point, and what a float can hold.
_MOST = 1e18
#: Two columns by which a limit is known: what the link is able to do, not how it idles.
LINK_COLUMNS = ("monitor_pcie_max_generation_median", "monitor_pcie_max_width_median")


def load_series(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and point, of the bandwidth runs in the statistics; see `SERIES_COLUMNS`.

    `samples` counts the samples of which a point is the median. Latencies are in microseconds. A
    run whose result file is missing has no rows: its metrics are in the record anyway. What
    `check_series` names has none either.
    """
    if frame.empty:
        return pd.DataFrame(columns=list(SERIES_COLUMNS))
    runs = frame[(frame["workload"] == BANDWIDTH) & frame["in_statistics"].astype(bool)]
    rows = [
        {**{name: run.get(name) for name in _RUN}, **point}
        for run in runs.to_dict("records")
        for point in _read_points(run)
    ]
    return pd.DataFrame(rows, columns=list(SERIES_COLUMNS))


def _read_points(run: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    path = run_paths(Path(str(run["study_dir"])), str(run["run_id"])).result
    try:
        series = read_json(path)["series"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for point in filter(_is_point, series if isinstance(series, list) else ()):
        latency = point.get("latency_us")
        if latency is None and point.get("latency_ns") is not None:
            latency = point["latency_ns"] / 1e3
        size = point.get("size_bytes")
        yield {
            "operation": clean_text(point["operation"]),
            "size_bytes": np.nan if size is None else size,
            "memory": point.get("memory") and clean_text(point["memory"]),
            "gb_per_s": np.nan if point.get("gb_per_s") is None else point["gb_per_s"],
            "latency_us": np.nan if latency is None else latency,
            "timed_by": clean_text(point.get("timed_by") or "host"),
            "samples": len(point.get("samples", ())),
        }


def check_series(records: Sequence[Record], directory: Path) -> list[Problem]:
    """The result files of a study's bandwidth runs with points that cannot be used."""
    problems = []
    for record in records:
        if record["workload"] != BANDWIDTH or not record["success"]:
            continue
        path = run_paths(directory, record["run_id"]).result
        try:
            series = read_json(path)["series"]
            if not isinstance(series, list):
                raise TypeError("its series is no list")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"unreadable: {clean_text(describe_exception(error))}"
            problems.append(Problem(str(path), f"{reason}; its curves are left out"))
            continue
        bad = len(series) - sum(map(_is_point, series))
        if bad:
            reason = f"{bad} of {len(series)} points skipped: a value of the wrong type"
            problems.append(Problem(str(path), reason))
    return problems


def _is_point(point: Any) -> bool:
    """Whether the values of a point have the types that they are stored with."""
    return (
        isinstance(point, dict)
        and isinstance(point.get("operation"), str)
        and all(isinstance(point.get(key), (str, NoneType)) for key in ("memory", "timed_by"))
        and all(_is_quantity(point.get(key)) for key in _QUANTITIES)
        and isinstance(point.get("samples", []), list)
    )


def _is_quantity(value: Any) -> bool:
    if value is None:
        return True
    return not isinstance(value, bool) and isinstance(value, (int, float)) and abs(value) < _MOST
