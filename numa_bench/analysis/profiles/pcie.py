"""Where the size of a report's PCIe link is known from: the command line, or the run's record."""

from __future__ import annotations

import re
from pathlib import Path

from numa_bench.errors import ReportError
from numa_bench.jsonio import read_json
from numa_bench.pcie import WIDTHS, Link, make_link


def parse_link(text: str) -> Link:
    """A link as typed: "4x16". Raises ReportError."""
    found = re.fullmatch(r"(?:gen)?([1-6])(?:\.0)?\s*x\s*(\d+)", text.strip(), re.IGNORECASE)
    if not found or int(found[2]) not in WIDTHS:
        raise ReportError(f"--pcie {text}: give generation and width, such as 4x16")
    return Link(int(found[1]), int(found[2]), "--pcie")


def link_of_run(report: Path) -> Link | None:
    """The link as it was seen during the run whose report this is, or None.

    A report of a study is named after its run and lies in a directory of the study; the run's
    record in results.json holds what its monitor read.
    """
    run_id = re.sub(r"(\.json\.gz|\.[^.]+)$", "", report.name)
    results = report.absolute().parent.parent / "results.json"
    try:
        records = read_json(results)
        record = next(r for r in records if r["run_id"] == run_id)
        monitor = record["monitor"]
        generation = int(monitor["pcie_max_generation"]["max"])
        width = int(monitor["pcie_max_width"]["max"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return make_link(generation, width, "the run's record")
