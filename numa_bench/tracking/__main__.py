"""python -m numa_bench.tracking."""

import sys

from numa_bench.terminal.entry import run_application

if __name__ == "__main__":
    sys.exit(run_application("numa_bench.tracking.command"))
