"""The series of bandwidth runs, read from each run's result when a question asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.jsonio import read_json
from numa_bench.records import BANDWIDTH
from numa_bench.study_files import run_paths

#: Columns of the runs that a point keeps.
_RUN = (
    "group", "setting", "cell", "device", "device_text", "gpu_id", "gpu_numa_node", "numa_node",
    "memory_node", "placement", "placement_text", "run_id", "study_dir", "repeat", "marks",
)  # fmt: skip
SERIES_COLUMNS = (
    *_RUN, "operation", "size_bytes", "memory", "gb_per_s", "latency_us", "timed_by", "samples",
)  # fmt: skip
#: Two columns by which a limit is known: what the link is able to do, not how it idles.
LINK_COLUMNS = ("monitor_pcie_max_generation_median", "monitor_pcie_max_width_median")


def load_series(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and point, of the bandwidth runs in the statistics; see `SERIES_COLUMNS`.

    `samples` counts the samples of which a point is the median. Latencies are in microseconds. A
    run whose result file is missing has no rows: its metrics are in the record anyway.
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
    for point in series:
        latency = point.get("latency_us")
        if latency is None and point.get("latency_ns") is not None:
            latency = point["latency_ns"] / 1e3
        size = point.get("size_bytes")
        yield {
            "operation": point["operation"],
            "size_bytes": np.nan if size is None else size,
            "memory": point.get("memory"),
            "gb_per_s": point.get("gb_per_s", np.nan),
            "latency_us": np.nan if latency is None else latency,
            "timed_by": point.get("timed_by", "host"),
            "samples": len(point.get("samples", ())),
        }
