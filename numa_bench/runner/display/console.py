"""What the user sees: a bar on a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from numa_bench.labels import duration_text, format_rate, quantity_label
from numa_bench.metric_registry import find_metric, headline_metric
from numa_bench.plan.estimates import estimate_run_s, expected_text
from numa_bench.plan.plan import Plan
from numa_bench.records import Record, RunSpec
from numa_bench.runner.display.cell_rows import (
    Row,
    find_headline,
    read_headline,
)
from numa_bench.terminal.console import CleanConsole, open_stdout
from numa_bench.terminal.lines import LineFormatter

logger = logging.getLogger("numa_bench")

STATUS_MARKS = {"passed": "[green]ok[/]", "waived": "[yellow]waived[/]"}


def make_progress(console: CleanConsole, *middle: ProgressColumn) -> Progress:
    """A bar with its description in front, and times after the columns in the `middle`."""
    return Progress(
        TextColumn("{task.description}"),
        *middle,
        TimeElapsedColumn(),
        TextColumn("about {task.fields[left]} left"),
        console=console,
        refresh_per_second=1,  # drawing costs CPU time beside a measurement
    )


class Reporter:
    """Shows a study's progress. A context manager; the log file gets every line in any case."""

    def __init__(self, plan: Plan, *, bar: bool) -> None:
        self._console = CleanConsole(stderr=True)
        self._level = plan.output.log_level
        self._progress: Progress | None = None
        self._pending: list[RunSpec] = []
        self._estimated_s = self._took_s = 0.0
        self.running = plan.study
        self._handler: logging.Handler
        if bar:
            self._progress = make_progress(self._console, BarColumn(), MofNCompleteColumn())
            # The bar shows runs itself; only what needs attention is printed above it.
            self._handler = RichHandler(console=self._console, show_path=False, show_time=False)
            self._handler.setLevel(max(logging.WARNING, logging.getLevelName(self._level)))
        else:
            self._handler = logging.StreamHandler(sys.stderr)
            self._handler.setFormatter(LineFormatter())
            self._handler.setLevel(self._level)

    def __enter__(self) -> Reporter:
        root = logging.getLogger()
        self._level_before = root.level
        root.setLevel(self._level)
        root.addHandler(self._handler)
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger().setLevel(self._level_before)

    def show_start(self, plan: Plan, pending: Sequence[RunSpec], directory: Path) -> None:
        """Show that the study starts; `pending` are the runs still to do."""
        done = len(plan.runs) - len(pending)
        resumed = f", {done} already done" if done else ""
        logger.info(
            "study %s: %d runs%s, %s; results in %s",
            plan.study,
            len(pending),
            resumed,
            expected_text(pending),
            directory,
        )
        self._pending = list(pending)
        if self._progress is not None:
            known = all(run.command is None for run in pending)
            left = duration_text(self.left_s()) if known else "?"
            self._task = self._progress.add_task(plan.study, total=len(pending), left=left)

    def left_s(self) -> float:
        """Seconds left: estimates of pending runs, scaled by the error of those that are done."""
        pace = self._took_s / self._estimated_s if self._estimated_s else 1.0
        return pace * sum(map(estimate_run_s, self._pending))

    def _left_text(self, spec: RunSpec) -> str:
        # Of a command nothing is known until its first run has ended.
        known = spec.command is None or self._took_s > 0
        return duration_text(self.left_s()) if known else "?"

    def show_run_start(self, spec: RunSpec) -> None:
        """Show that a run starts."""
        logger.info("start %s", spec.run_id, extra={"run_id": spec.run_id})
        self.running = spec.run_id
        if self._progress is not None:
            self._progress.update(self._task, description=spec.run_id, left=self._left_text(spec))

    def show_wait(self, text: str) -> None:
        """Show that the study waits for its turn on the host; an empty text ends that."""
        if text:
            logger.info(text)
        if self._progress is not None and self._progress.tasks:
            self._progress.update(self._task, description=text or self.running)

    def show_run_end(self, record: Record) -> None:
        """Show how a run ended; its record is stored."""
        line = result_line(record)
        level = logging.INFO if record["status"] in ("passed", "waived") else logging.WARNING
        fields = {
            "run_id": record["run_id"],
            "status": record["status"],
            "error": record["error"],
            "duration_s": record["duration_s"],
        }
        if self._pending:
            done = self._pending.pop(0)
            self._estimated_s += estimate_run_s(done)
            self._took_s += record["duration_s"]
        if self._progress is not None:
            mark = STATUS_MARKS.get(record["status"], f"[bold red]{record['status']}[/]")
            # Escaped: PyTorch's errors contain texts such as "[enforce fail at ...]".
            self._console.print(f"{mark} {escape(line)}", highlight=False, emoji=False)
            self._progress.update(self._task, advance=1, left=duration_text(self.left_s()))
            level = logging.INFO
        logger.log(level, "%s %s", record["status"], line, extra=fields)


def result_line(record: Record) -> str:
    """One finished run in one line."""
    parts = [record["run_id"]]
    rate = read_headline(record)
    if rate is not None:
        config = record["workload_config"]
        metric = headline_metric(record["workload"], record["device"], config)
        parts.append(f"{format_rate(rate)} {find_metric(metric, config).unit}")
    parts.append(f"{record['duration_s']:.1f} s")
    if record["error"]:
        parts.append(record["error"].splitlines()[0])
    return "  ".join(parts)


def print_results(rows: Sequence[Row], plan: Plan, lines: Sequence[str]) -> None:
    """Print the closing table on stdout: model x placement, throughput, difference to local.

    A bandwidth study has the bandwidth in GB/s in place of the throughput.
    """
    metrics = dict(find_headline(run) for run in plan.runs)
    quantity = " or ".join(map(quantity_label, metrics))
    units = " or ".join(dict.fromkeys(metric.unit for metric in metrics.values()))
    table = Table(title=f"{plan.study}: {quantity}", title_justify="left")
    for name in ("device", "model", "CPU node", "memory", "placement"):
        table.add_column(name, overflow="fold")
    for name in ("runs", units, "range", "to local"):
        table.add_column(name, justify="right")
    table.add_column("marks")
    grouped = len({(row.device, row.model) for row in rows}) < len(rows)
    previous = None
    for row in rows:
        if grouped and previous not in (None, (row.device, row.model)):
            table.add_section()
        previous = (row.device, row.model)
        table.add_row(
            row.device,
            row.model,
            row.cpu_node,
            row.memory,
            row.placement,
            _runs_text(row),
            "-" if row.median is None else format_rate(row.median),
            _range_text(row),
            "-" if row.to_local is None else f"{row.to_local:+.1%}",
            row.marks,
        )
    console = open_stdout()
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _runs_text(row: Row) -> str:
    bad = sorted({s for s in row.statuses if s != "passed"})
    counted = f"{len(row.throughput)}/{row.planned}"
    return f"{counted} {', '.join(bad)}" if bad else counted


def _range_text(row: Row) -> str:
    if len(row.throughput) < 2:
        return "-"
    half = (max(row.throughput) - min(row.throughput)) / 2
    return f"±{half / statistics.median(row.throughput):.1%}"
