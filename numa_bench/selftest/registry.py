"""All checks, in the order in which they are done and shown."""

from __future__ import annotations

import importlib

from numa_bench.selftest.checks import Check

#: Modules of `subjects/`; each has its checks in a tuple CHECKS.
SUBJECTS = (
    *("host", "memory", "copies", "pipelines", "host_cost", "monitoring"),
    *("compilation", "profiling"),
)


def list_checks() -> tuple[Check, ...]:
    """Every check. Imports torch."""
    package = "numa_bench.selftest.subjects"
    modules = [importlib.import_module(f"{package}.{subject}") for subject in SUBJECTS]
    return tuple(check for module in modules for check in module.CHECKS)
