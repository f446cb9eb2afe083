"""Show this machine's NUMA nodes and GPUs: python -m numa_bench.topology [--json] [--root DIR]."""

from __future__ import annotations

import sys

from numa_bench.terminal.entry import run_application

if __name__ == "__main__":
    sys.exit(run_application("numa_bench.machine.topology_view"))
