"""Show this machine's NUMA nodes and GPUs: python -m numa_bench.topology [--json] [--root DIR]."""

from __future__ import annotations

import sys

from numa_bench.machine.topology_view import main

if __name__ == "__main__":
    sys.exit(main())
