"""The summary of a study, experiment_summary.json."""

from __future__ import annotations

from typing import TypedDict

from numa_bench.records.run_parts import JsonDict


class TimeLimitSummary(TypedDict):
    """What a time limit left of a study, in seconds and in repeats of every cell."""

    limit_s: float
    repeats: int
    kept_repeats: int
    cut_runs: int
    expected_s: float


class Summary(TypedDict):
    """experiment_summary.json: progress of a study, its order, and the machine.

    Times are UTC in ISO 8601. `machine` is the environment of the last start, `environments` are
    those of all starts by id. `success_rate`: passed runs over recorded ones, null without any.
    `planned` leaves out runs that the time limit cut; null `time_limit`: there was none.
    `allocation` is what the last start was granted of the machine (`machine.allocation`).
    `repeats_history`: the repeats that were planned at first, then those of each start that added
    some when all before had been run, so that results may have been looked at in between.
    `warnings`: what was noticed while planning, also what the study cannot show. `jobs`: of an
    interleaved sweep, the overrides in which each job differs from others; empty for other studies.
    """

    study: str
    planned: int | None
    counts: dict[str, int]
    success_rate: float | None
    started: str | None
    updated: str | None
    runs_duration_s: float
    interrupted: bool
    time_limit: TimeLimitSummary | None
    repeats_history: list[int]
    order: str | None
    order_seed: int | None
    run_order: list[str]
    jobs: list[list[str]]
    conditions: list[str]
    warnings: list[str]
    profiler: dict[str, str | None]
    allocation: JsonDict
    machine: JsonDict
    environments: dict[str, JsonDict]
