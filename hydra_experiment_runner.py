#!/usr/bin/env python
"""Measure whether NUMA placement changes the throughput of a ViT pipeline on this machine.

python hydra_experiment_runner.py --help
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from numa_bench.terminal.entry import run_application

        sys.exit(run_application("numa_bench.commands.run"))
    except KeyboardInterrupt:  # before run_application took over
        sys.exit(130)
