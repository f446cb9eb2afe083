"""What profilers recorded of the runs of a study, one row per report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from numa_bench.analysis.profiles.inspection import Export, inspect_report
from numa_bench.analysis.profiles.metrics import DeviceMetrics
from numa_bench.errors import NumaBenchError

#: Columns of `profile_table` that come from the run's record.
RUN_COLUMNS = (
    *("group", "setting", "cell", "study_dir", "run_id", "repeat"),
    *("device_text", "model_text", "placement", "placement_text", "profiler_overhead"),
)
#: Columns that come from its report; units are in the names. None: not in the report.
REPORT_COLUMNS = (
    *("window", "window_s", "kernels", "h2d_gb_per_s", "d2h_gb_per_s", "overlap_fraction"),
    *("exposed_copy_ms", "gpu_idle_fraction", "gap_p95_us", "launch_latency_p50_us", "problem"),
)
#: Quickest to read first.
_REPORTS = ("nsys_sqlite", "nsys_report", "torch_trace")


def profile_table(frame: pd.DataFrame, most: int, export: Export | None = None) -> pd.DataFrame:
    """One row for each of at most `most` profiled runs, evenly taken over all of them.

    A report that cannot be read has a row with the reason in `problem`.
    """
    columns = [*RUN_COLUMNS, *REPORT_COLUMNS]
    if frame.empty or most <= 0:
        return pd.DataFrame(columns=columns)
    runs = frame[frame["in_statistics"].astype(bool)]
    reports = [(run, path) for run in runs.to_dict("records") if (path := _report(run))]
    # Rounded up, so that at most `most` are taken.
    step = max(1, -(-len(reports) // most))
    rows = [
        {**{name: run.get(name) for name in RUN_COLUMNS}, **_figures(run, path, export)}
        for run, path in reports[::step]
    ]
    return pd.DataFrame(rows, columns=columns)


def _report(run: dict[Any, Any]) -> Path | None:
    """The file of a run that is quickest to read; None without one."""
    for key in _REPORTS:
        name = run.get(key)
        if isinstance(name, str) and name:
            root = Path(run["study_dir"]).resolve()
            path = (root / name).resolve()
            # The path is from a record: nothing outside of the study is opened.
            if path.is_file() and path.is_relative_to(root):
                return path
    return None


def _figures(run: dict[Any, Any], path: Path, export: Export | None) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(REPORT_COLUMNS)
    try:
        inspection = inspect_report(path, export=export)
    except (NumaBenchError, OSError) as error:
        return {**empty, "problem": str(error)}
    metrics = inspection.metrics
    head = {**empty, "window": metrics.window, "window_s": metrics.window_s}
    if not metrics.devices:
        return {**head, "problem": "the report has no GPU activity"}
    device = find_device(metrics.devices, run.get("gpu_uuid"))
    if device is None:
        found = ", ".join(str(one.uuid) for one in metrics.devices)
        return {**head, "problem": f"the report is of {found}, the run used {run['gpu_uuid']}"}
    return {**head, **_device(device)}


def find_device(devices: Sequence[DeviceMetrics], uuid: object) -> DeviceMetrics | None:
    """The GPU with this UUID, or the first one where the report or the run has no UUIDs.

    None: the report is of other GPUs.
    """
    known = isinstance(uuid, str) and all(device.uuid for device in devices)
    if not known:
        return devices[0]
    return next((device for device in devices if device.uuid == uuid), None)


def _device(device: DeviceMetrics) -> dict[str, object]:
    copies = device.copies
    busy = device.busy.get("any")
    return {
        "kernels": device.kernel_count,
        "h2d_gb_per_s": copies["H2D"].gb_per_s_of_busy_time if "H2D" in copies else None,
        "d2h_gb_per_s": copies["D2H"].gb_per_s_of_busy_time if "D2H" in copies else None,
        "overlap_fraction": device.overlap.hidden_fraction,
        "exposed_copy_ms": device.overlap.exposed_copy_ms,
        # With the time before the first and after the last work, unlike the gaps.
        "gpu_idle_fraction": 1 - busy.fraction_of_window if busy else None,
        "gap_p95_us": device.idle_gaps.p95_us,
        "launch_latency_p50_us": device.launch_latency.p50_us if device.launch_latency else None,
    }
