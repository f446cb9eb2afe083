"""Marks: the kinds of disturbance that warnings report, each with a letter and a meaning.

A warning is "code: what was observed"; `KINDS` has the mark and the meaning of each code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance: its mark in tables, and its meaning with what to do about it."""

    mark: str
    meaning: str


KINDS: dict[str, Kind] = {
    "simulated": Kind("X", "the machine was simulated; the figures are not a measurement"),
    "throttled": Kind("T", "the GPU lowered its clocks; check cooling and power limits"),
    "foreign_gpu": Kind("G", "another process used the GPU; measure alone"),
    "foreign_unknown": Kind("N", "other processes on the GPU cannot be seen in this container"),
    "no_reading": Kind(
        "E", "no sensor reading in the timed window; lower monitor_interval_s, or measure longer"
    ),
    "foreign_cpu": Kind("C", "other processes used the measured CPUs; measure on an idle machine"),
    "steal": Kind("H", "the hypervisor took CPU time; use a dedicated host"),
    "swap": Kind("M", "memory was swapped; free some, or lower memory_size_mb"),
    "pcie": Kind("P", "the PCIe link ran below its maximum; check slot and BIOS"),
    "spread": Kind("S", "batch times vary widely; measure longer, or find the cause"),
    "pause": Kind(
        "I", "single batches took a sizeable share of the window: something stopped the worker"
    ),
    "trend": Kind("D", "batch times drift; warm up longer (warmup_samples, warmup_budget_s)"),
    "few": Kind("F", "too few batches for percentiles or spread; raise time_budget_s"),
    "unsettled": Kind("W", "warm-up reached its limit; raise warmup_budget_s"),
    "host_bound": Kind("B", "the GPU waited for the host; raise batch_size, or compile the model"),
    "stage_gaps": Kind("N", "stage times include host gaps; see the record"),
    "pageable": Kind("N", "copies of pageable memory are staged by the driver; as configured"),
    "profiler": Kind("R", "the profile is missing or limited; see the record's warnings"),
    "series": Kind("N", "a bandwidth run is incomplete or limited; see the record's warnings"),
    "output": Kind(
        "N", "a full disk may have lost output that metrics are read of; see the record"
    ),
    "leftovers": Kind("L", "processes of the run outlived it and were killed"),
    "threads": Kind("N", "more threads than CPUs; lower cpu_threads"),
    "compile": Kind("N", "a compile setting had no effect; see the record"),
    "huge_pages": Kind("N", "memory asked for in huge pages is in small ones; see the record"),
    "rounds": Kind("N", "a bandwidth run had time for fewer samples of each point than asked for"),
    "placement": Kind("N", "placement could not be verified; see the record"),
    "misplaced": Kind("O", "memory or threads were outside the bound nodes; see the record"),
    "preferred": Kind("N", "some memory is on other nodes than the preferred one"),
}


def format_marks(warnings: Sequence[str]) -> str:
    """The marks of these warnings, each once, in alphabetical order."""
    return "".join(
        sorted({KINDS[code].mark for code in map(warning_code, warnings) if code in KINDS})
    )


def format_legend(warnings: Sequence[str]) -> list[str]:
    """One line per kind of warning among these."""
    seen = {warning_code(warning) for warning in warnings}
    return [f"{kind.mark}: {kind.meaning}" for code, kind in KINDS.items() if code in seen]


def warning_code(warning: str) -> str:
    """The code at the start of a warning."""
    return warning.partition(":")[0]
