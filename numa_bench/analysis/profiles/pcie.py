"""Where the size of a report's PCIe link is known from: the command line, or the run's record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numa_bench.errors import ReportError
from numa_bench.pcie import WIDTHS, Link, make_link
from numa_bench.study_files import RESULTS, parse_records


def parse_link(text: str) -> Link:
    """A link as typed: "4x16". Raises ReportError."""
    match = re.fullmatch(r"(?:gen)?([1-6])(?:\.0)?\s*x\s*(\d+)", text.strip(), re.IGNORECASE)
    if not match or int(match[2]) not in WIDTHS:
        raise ReportError(f"--pcie {text}: give generation and width, such as 4x16")
    return Link(int(match[1]), int(match[2]), "--pcie")


def find_run_link(report: Path) -> Link | None:
    """The link that the monitor read during the run of this report, or None.

    A report of a study is named after its run and is in a directory of the study; the monitor's
    readings are in the run's record in results.json.
    """
    run_id = re.sub(r"(\.json\.gz|\.[^.]+)$", "", report.name)
    try:
        records = parse_records(report.absolute().parent.parent / RESULTS).records
        monitor: Any = next(r for r in records if r["run_id"] == run_id)["monitor"]
        # What the link is able to do: an idle link runs at a lower generation to save power.
        generation = int(monitor["pcie_max_generation"]["max"])
        width = int(monitor["pcie_max_width"]["max"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        # A report by itself has no record; its link is unknown, which is no error.
        return None
    return make_link(generation, width, "the run's record")
