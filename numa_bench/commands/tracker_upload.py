"""Uploads a finished page to the trackers of its study, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from numa_bench.jsonio import read_object
from numa_bench.study_files import TRACKING
from numa_bench.versions import import_variables

#: Longest wait in seconds: a tracker that hangs must not hold the terminal.
TIMEOUT_S = 120.0


def upload_report(study: Path, directory: Path) -> str | None:
    """Log page and plots to the trackers of `study`; returns a line for the user, or None.

    A tracker that fails does not fail the analysis; the line then has its error.
    """
    if not read_object(study / TRACKING).get("trackers"):
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
        return f"tracking  skipped, because it took longer than {TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        return f"tracking  the page was not logged: {lines[-1]}"
    return "tracking  page and plots were logged with the study"
