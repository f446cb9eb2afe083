#!/usr/bin/env python
"""Measure whether NUMA placement changes the throughput of a ViT pipeline on this machine.

python hydra_experiment_runner.py --help
"""

from __future__ import annotations

import sys

from numa_bench.commands.run import main

if __name__ == "__main__":
    sys.exit(main())
