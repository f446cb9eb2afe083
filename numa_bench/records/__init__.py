"""The data model: what is planned, what was measured, and the flat record that users read.

Every file that a study leaves behind is made of these classes: `specs` has the plan's side,
`run_record` that of the measurement, and `upgrade` reads what older versions stored.
"""

from __future__ import annotations

from numa_bench.metric_registry import METRICS
from numa_bench.records.run_record import (
    BAD,
    DONE,
    Execution,
    PlannedValues,
    Record,
    RunResult,
    Status,
    Summary,
    TimeLimitSummary,
    add_warnings,
    make_record,
)
from numa_bench.records.specs import (
    PIPELINE,
    PROFILED_WINDOW,
    RUN_TOKEN,
    SCHEMA_HISTORY,
    SCHEMA_VERSION,
    STAGES,
    TIMED_WINDOW,
    WARMUP,
    DeviceSpec,
    Expectation,
    JsonDict,
    Placement,
    ProfileSpec,
    RunSpec,
    TestSpec,
    VitSpec,
)

__all__ = [
    "BAD",
    "DONE",
    "METRICS",
    "PIPELINE",
    "PROFILED_WINDOW",
    "RUN_TOKEN",
    "SCHEMA_HISTORY",
    "SCHEMA_VERSION",
    "STAGES",
    "TIMED_WINDOW",
    "WARMUP",
    "DeviceSpec",
    "Execution",
    "Expectation",
    "JsonDict",
    "Placement",
    "PlannedValues",
    "ProfileSpec",
    "Record",
    "RunResult",
    "RunSpec",
    "Status",
    "Summary",
    "TestSpec",
    "TimeLimitSummary",
    "VitSpec",
    "add_warnings",
    "make_record",
]  # fmt: skip
