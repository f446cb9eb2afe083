#!/usr/bin/env python
"""Measure whether NUMA placement changes the throughput of a ViT pipeline on this machine.

python hydra_experiment_runner.py --help
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from numa_bench.commands.run import main

        sys.exit(main())
    except KeyboardInterrupt:  # also while modules are loaded, which takes a moment
        sys.exit(130)
