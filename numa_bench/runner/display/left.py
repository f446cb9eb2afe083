"""What a dry run prints: the runs that are planned, or those that a resumed study has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from numa_bench.labels import duration_text
from numa_bench.plan.estimates import bound_run_s, estimate_run_s, expected_text
from numa_bench.plan.plan import Plan
from numa_bench.records import DONE, Record, RunSpec, Status
from numa_bench.runner.display.cell_rows import (
    cpu_text,
    device_text,
    group_by_cell,
    memory_text,
    model_text,
    placement_text,
    varied_settings,
)
from numa_bench.runner.display.predictions import make_prediction_tables
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.runner.resume import find_done
from numa_bench.terminal.console import open_stdout


def print_plan(plan: Plan, stored: Sequence[Record] | None, warnings: Sequence[str]) -> None:
    """Print what a study would run, one row per cell, and conditions that would weaken it.

    `stored` are the records of the study that is resumed: only what is left is printed then. None:
    it is a new study.
    """
    console = open_stdout()
    left = find_left(plan, stored or ())
    title = "planned runs" if stored is None else "runs left"
    if left:
        console.print(
            _make_matrix(f"{plan.study}: {title}", plan, left, resumed=stored is not None)
        )
    if stored is None:
        for predicted in make_prediction_tables(plan.predictions):
            console.print(predicted)
        lines = [describe_plan(plan)]
    else:
        lines = [describe_left(plan, stored, left)]
    lines[0] += " Nothing was run."
    lines += [f"time limit: {line}" for line in describe_limit(plan)]
    lines += [f"warning: {warning}" for warning in warnings]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def find_left(plan: Plan, stored: Sequence[Record]) -> list[RunSpec]:
    """The planned runs that must run, in order: those that neither passed nor were waived."""
    done = find_done(stored, plan.runs)
    return [run for run in plan.runs if run.run_id not in done]


def describe_plan(plan: Plan) -> str:
    """How many runs a study has, and how long it takes."""
    return (
        f"{len(plan.runs)} runs of {len(plan.cells)} cells in {plan.order} order, "
        f"{expected_text(plan.runs)}, at most {duration_text(plan.longest_s)}."
    )


def describe_left(plan: Plan, stored: Sequence[Record], left: Sequence[RunSpec]) -> str:
    """How much of a resumed study is left, and how long it takes."""
    planned = {run.run_id for run in plan.runs}
    statuses = Counter(r["status"] for r in stored if r["run_id"] in planned)
    kept = ", ".join(f"{n} {s}" for s, n in sorted(statuses.items()) if Status(s) in DONE)
    again = ", ".join(f"{n} {s}" for s, n in sorted(statuses.items()) if Status(s) not in DONE)
    if not left:
        return f"nothing left: {kept} of {len(plan.runs)} runs."
    text = (
        f"{len(left)} of {len(plan.runs)} runs left, {expected_text(left)}, at most "
        f"{duration_text(sum(map(bound_run_s, left)))}; {kept or 'none passed'}."
    )
    return f"{text} Run again: {again}." if again else text


def _make_matrix(title: str, plan: Plan, runs: Sequence[RunSpec], *, resumed: bool) -> Table:
    """A table of runs with one row per cell; `resumed`: with the numbers of the repeats."""
    table = Table(title=title, title_justify="left")
    for name in ("run id", "device", "CPU node", "memory node", "policy", "placement", "model"):
        table.add_column(name, overflow="fold")
    for name in ("compile", "repeats", "about"):
        table.add_column(name, justify="right")
    varied = [name for name in varied_settings(plan.runs) if name != "compile_model"]
    for repeats in group_by_cell(plan.cells, runs).values():
        if not repeats:
            continue
        run = repeats[0]
        numbers = ", ".join(f"r{one.repeat}" for one in sorted(repeats, key=lambda r: r.repeat))
        table.add_row(
            run.run_id.replace(f"_r{run.repeat}-", "_r*-"),
            device_text(run),
            cpu_text(run),
            memory_text(run),
            run.placement.policy,
            placement_text(run),
            model_text(run, varied).replace(f" compiled:{run.test.compile_mode}", ""),
            run.test.compile_mode if run.test.compile_model else "no",
            numbers if resumed else str(len(repeats)),
            "?" if run.command else duration_text(sum(map(estimate_run_s, repeats))),
        )
    return table
