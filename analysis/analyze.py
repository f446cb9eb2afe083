#!/usr/bin/env python
"""From stored studies to a verdict, plots and one page.

python analysis/analyze.py --help
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's own directory on the path; the package is in the one above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

    try:
        from numa_bench.terminal.entry import run_application

        sys.exit(run_application("numa_bench.commands.analyze"))
    except KeyboardInterrupt:  # before run_application took over
        sys.exit(130)
