#!/usr/bin/env python
"""What a profiler report says about copies, compute and their overlap.

python analysis/inspect_report.py --help
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's own directory on the path; the package is in the one above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    try:
        from numa_bench.terminal.entry import run_application

        sys.exit(run_application("numa_bench.commands.inspect"))
    except KeyboardInterrupt:  # before run_application took over
        sys.exit(130)
