"""Inspect one file: read it, choose the window, compute its metrics, find its link."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numa_bench.analysis.profiles.activity import Activity
from numa_bench.analysis.profiles.measure import measure_activity
from numa_bench.analysis.profiles.metrics import ProfileMetrics
from numa_bench.analysis.profiles.nsys_export import read_sqlite
from numa_bench.analysis.profiles.pcie import find_run_link
from numa_bench.analysis.profiles.windows import Window, choose_window
from numa_bench.errors import ReportError
from numa_bench.pcie import Link

REPORT = ".nsys-rep"
#: Exports a report (first) to an SQLite file (second); raises NumaBenchError.
Export = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Inspection:
    """One report: its activity, the window, and the metrics of that window."""

    path: Path
    activity: Activity
    window: Window
    metrics: ProfileMetrics
    link: Link | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; units are in the names."""
        source, link = self.activity.source, self.link
        return {
            "file": str(self.path),
            "tool": source.tool,
            "tool_version": source.version,
            "gpu_activity": self.activity.has_gpu_work,
            "gpus": [asdict(gpu) for gpu in self.activity.gpus],
            "pcie": None if link is None else {**asdict(link), "limit_gb_per_s": link.gb_per_s},
            **self.metrics.to_dict(),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Flat rows, one for each GPU that worked, or one without GPU figures."""
        head = {
            "file": str(self.path),
            "tool": self.activity.source.tool,
            "tool_version": self.activity.source.version,
            "window": self.metrics.window,
            "window_s": self.metrics.window_s,
            "pcie_limit_gb_per_s": self.link.gb_per_s if self.link else None,
        }
        return [{**head, **device.to_row()} for device in self.metrics.devices] or [head]


def inspect_report(
    path: Path,
    window: str | None = None,
    link: Link | None = None,
    export: Export | None = None,
) -> Inspection:
    """Read a .nsys-rep, an exported SQLite file or a torch trace.

    `export` turns a .nsys-rep into SQLite, in (report, target).

    Raises NumaBenchError, in one line with the file.
    """
    with _readable(path, export) as file:
        activity = read_activity(file)
    chosen = choose_window(activity, window)
    return Inspection(
        path, activity, chosen, measure_activity(activity, chosen), link or find_run_link(path)
    )


def read_activity(path: Path) -> Activity:
    """The activity of an exported SQLite file or of a torch trace."""
    # Imported here: reading files of nsys needs neither json nor gzip.
    from numa_bench.analysis.profiles.torch_trace import is_trace, read_trace

    return read_trace(path) if is_trace(path) else read_sqlite(path)


@contextmanager
def _readable(path: Path, export: Export | None) -> Iterator[Path]:
    """The file itself, or the SQLite export of a .nsys-rep.

    The export is kept beside the report where that directory is writable, else it is temporary.
    """
    if path.suffix != REPORT:
        yield path
        return
    if not path.is_file():
        raise ReportError(f"{path}: no such file")
    # An export that is older than its report is of an earlier report with the same name.
    beside = path.with_suffix(".sqlite")
    if beside.is_file() and beside.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        yield beside
        return
    if export is None:
        raise ReportError(f"{path}: not exported to SQLite; run analysis/inspect_report.py on it")
    if os.access(path.parent, os.W_OK):
        export(path, beside)
        yield beside
        return
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / beside.name
        export(path, target)
        yield target
