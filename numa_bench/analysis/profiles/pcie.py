"""The limit of a PCIe link, and the link that a run was measured on.

Raw rate per lane and encoding by generation (PCI-SIG base specifications 1.0 to 6.0): 2.5 and 5
GT/s with 8b/10b, 8, 16 and 32 GT/s with 128b/130b, 64 GT/s in 256-byte FLITs of which 236 are for
packets. The limit is per direction and before packet headers, which take some 5 to 20 % more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from numa_bench.errors import ReportError
from numa_bench.jsonio import read_json

#: Giga-transfers per second and lane (one bit each), and the share that encoding leaves.
GENERATIONS = {
    1: (2.5, 8 / 10),
    2: (5.0, 8 / 10),
    3: (8.0, 128 / 130),
    4: (16.0, 128 / 130),
    5: (32.0, 128 / 130),
    6: (64.0, 236 / 256),
}
WIDTHS = (1, 2, 4, 8, 12, 16, 32)


@dataclass(frozen=True)
class Link:
    """A PCIe link; `source` names where generation and width come from."""

    generation: int
    width: int
    source: str

    @property
    def gb_per_s(self) -> float:
        """GB/s per direction, before packet headers."""
        rate, kept = GENERATIONS[self.generation]
        return rate * kept * self.width / 8

    def __str__(self) -> str:
        return f"PCIe {self.generation}.0 x{self.width}"


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
    results = report.absolute().parent.parent / "results.json"
    try:
        records = read_json(results)
        record = next(r for r in records if r["run_id"] == run_id)
        monitor = record["monitor"]
        generation = int(monitor["pcie_max_generation"]["max"])
        width = int(monitor["pcie_max_width"]["max"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    if generation not in GENERATIONS or width not in WIDTHS:
        return None
    return Link(generation, width, "the run's record")
