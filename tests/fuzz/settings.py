"""How many cases the fuzz tests try: a few in CI, many in the long mode.

    NUMA_BENCH_FUZZ=10000 python -m pytest tests/fuzz

tries that many cases in each test, without a limit of time for it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("NUMA_BENCH_FUZZ", "0"))


def fuzz_settings(cases: int) -> settings:
    """Settings of one test that tries `cases` cases in CI, always the same ones."""
    return settings(
        max_examples=CASES or cases,
        derandomize=not CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
