"""Puts a finished page where the study itself was logged, with the runner's own command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from numa_bench.jsonio import read_object
from numa_bench.versions import import_variables

#: What a study keeps of its trackers (numa_bench/tracking/sync.py).
STATE = "tracking.json"
TIMEOUT_S = 120.0


def upload_report(study: Path, directory: Path) -> str | None:
    """Log page and plots to the trackers that know `study`; what to tell the user, or None.

    A tracker that does not take them costs a line, not the analysis.
    """
    if not read_object(study / STATE).get("trackers"):
        return None
    files = [directory / "report.html", *sorted((directory / "plots").glob("*.png"))]
    argv = [sys.executable, "-m", "numa_bench.tracking", "attach", str(study), *map(str, files)]
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **import_variables(os.environ)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"tracking  took longer than {TIMEOUT_S:.0f} s and was left alone"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        return f"tracking  the page was not logged: {lines[-1]}"
    return "tracking  page and plots are with the study"
