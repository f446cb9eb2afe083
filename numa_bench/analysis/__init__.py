"""From stored studies to statistics, plots and a report. Reads files only.

from numa_bench.analysis import load_runs

runs = load_runs("outputs", "numa_study")
runs[runs.in_statistics].groupby("placement").throughput_samples_per_s.median()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numa_bench.analysis.read.runs import load_runs

__all__ = ["load_runs"]


def __getattr__(name: str) -> Any:
    # Imported on first use: settings and --help do not wait for pandas.
    if name == "load_runs":
        from numa_bench.analysis.read.runs import load_runs

        return load_runs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
