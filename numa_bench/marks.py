"""Marks: the kinds of disturbance that a run's warnings report, each with a letter and a meaning.

A warning is "code: what was seen"; the code finds its mark and its meaning here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance: its mark in the table, and what to do about it."""

    mark: str
    meaning: str


KINDS: dict[str, Kind] = {
    "throttled": Kind("T", "GPU clocks were held back; check cooling and power limits"),
    "foreign_gpu": Kind("G", "another process used the GPU; measure alone"),
    "foreign_cpu": Kind("C", "others used the measured CPUs; measure on an idle machine"),
    "steal": Kind("H", "the hypervisor took CPU time; use a dedicated host"),
    "swap": Kind("M", "memory was swapped; free some, or measure less"),
    "pcie": Kind("P", "the PCIe link ran below its maximum; check slot and BIOS"),
    "spread": Kind("S", "batch times vary widely; measure longer, or find what disturbs"),
    "trend": Kind("D", "batch times drift; warm up longer (warmup_samples, warmup_budget_s)"),
    "few": Kind("F", "too few batches for percentiles or spread; raise time_budget_s"),
    "unsettled": Kind("W", "warm-up ended at its cap; raise warmup_budget_s"),
    "host_bound": Kind("B", "the GPU waited for the host; raise batch_size, or compile the model"),
    "stage_gaps": Kind("N", "stage times include host gaps; see the record"),
    "profiler": Kind("R", "the profile is missing or limited; see the record's warnings"),
    "leftovers": Kind("L", "the run left processes behind; they were killed"),
    "threads": Kind("N", "more threads than CPUs; lower cpu_threads"),
    "compile": Kind("N", "a compile setting had no effect; see the record"),
    "placement": Kind("N", "placement is not proven; see the record"),
    "preferred": Kind("N", "memory spilled over to other nodes"),
}


def format_marks(warnings: Sequence[str]) -> str:
    """The marks of some warnings, each once, in alphabetical order."""
    return "".join(
        sorted({KINDS[code].mark for code in map(warning_code, warnings) if code in KINDS})
    )


def format_legend(warnings: Sequence[str]) -> list[str]:
    """One line per kind of warning among these."""
    seen = {warning_code(warning) for warning in warnings}
    return [f"{kind.mark}: {kind.meaning}" for code, kind in KINDS.items() if code in seen]


def warning_code(warning: str) -> str:
    """The code in front of a warning."""
    return warning.partition(":")[0]
