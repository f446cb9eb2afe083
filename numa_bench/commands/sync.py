"""Logs stored studies to trackers: numa-bench sync PATH..."""

from __future__ import annotations

import sys

from numa_bench.tracking import command as tracking


def main() -> int:
    """Run `python -m numa_bench.tracking sync` on this process's arguments."""
    return tracking.main(["sync", *sys.argv[1:]])
