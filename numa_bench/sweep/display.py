"""What the user sees of a sweep: one bar over all jobs, or plain lines, and a table at the end."""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from numa_bench.invocation import resume_command
from numa_bench.labels import duration_text
from numa_bench.records import Status
from numa_bench.runner.display.console import STATUS_MARKS, make_progress
from numa_bench.runner.study_summary import shown_path
from numa_bench.study_files import JOB_LOGS, SWEEP_SUMMARY
from numa_bench.sweep.state import FAILURES, Job, JobState, Sweep
from numa_bench.terminal.console import CleanConsole, open_stdout
from numa_bench.terminal.lines import print_line


class SweepReporter:
    """Shows the progress of a sweep on stderr; a context manager.

    `parallel`: how many measurements may go on at a time. With `bar` a bar at the bottom, else
    lines with the time.
    """

    def __init__(self, sweep: Sweep, *, bar: bool, parallel: int) -> None:
        self._sweep = sweep
        self._parallel = parallel
        self._console = CleanConsole(stderr=True)
        self._shown: set[str] = set()
        #: What each running job does, and the numbers of those that wait for their turn.
        self._doing: dict[int, str] = {}
        self._waiting: set[int] = set()
        self._done = 0
        self._expected_s, self._took_s = 0.0, 0.0
        self._estimates = {job.number: job.left_s for job in sweep.running}
        self._progress: Progress | None = None
        if bar:
            bar_column = BarColumn(bar_width=24)
            self._progress = make_progress(
                self._console, bar_column, MofNCompleteColumn(), TextColumn("runs")
            )

    def __enter__(self) -> SweepReporter:
        jobs = self._sweep.running
        others = len(self._sweep.jobs) - len(jobs)
        self._print(
            f"sweep of {len(jobs)} jobs, {self._total} runs, about "
            f"{duration_text(self.left_s())}{f'; {others} other jobs' if others else ''}; "
            f"results in {shown_path(self._sweep.directory)}"
        )
        if self._progress is not None:
            self._task = self._progress.add_task("", total=self._total, left="")
            self._update()
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

    @property
    def _total(self) -> int:
        return sum(job.runs or 0 for job in self._sweep.running)

    def left_s(self) -> float:
        """Seconds left: estimates of jobs that wait, scaled by the error of those that ended."""
        pace = self._took_s / self._expected_s if self._expected_s and self._took_s else 1.0
        left = 0.0
        for job in self._sweep.running:
            left += job.left_s * (pace if job.state is JobState.WAITING else 1.0)
        return left / self._parallel

    def show_job_start(self, job: Job) -> None:
        """Show that a job starts."""
        self._doing[job.number] = "starting"
        if self._progress is None:
            self._print(f"start {job.name}, {self._place(job)}")
        self._update(job)

    def show_event(self, job: Job, event: dict[str, Any]) -> None:
        """Show what a job reports (`runner.display.events`)."""
        kind, text = event["event"], event.get("text", "")
        if "left_s" in event:
            job.left_s = event["left_s"]
        if kind == "start":
            job.runs = max(job.runs or 0, event["runs"])
        elif kind in ("run", "wait"):
            self._doing[job.number] = text
            (self._waiting.add if kind == "wait" else self._waiting.discard)(job.number)
        elif kind == "end":
            self._done += 1
            self._print(f"job {job.number}  {text}", event["status"])
        elif kind == "warning" and (shape := re.sub(r"[\d.]+", "", text)) not in self._shown:
            self._shown.add(shape)  # most are of the machine, and every job has them
            self._print(f"job {job.number}: {text}", "warning")
        self._update(job)

    def show_job_end(self, job: Job) -> None:
        """Show how a job ended."""
        self._doing.pop(job.number, None)
        self._waiting.discard(job.number)
        if job.duration_s is not None and job.state in (JobState.PASSED, JobState.FAILED):
            self._expected_s += self._estimates.get(job.number, 0.0)
            self._took_s += job.duration_s
        if job.state in (JobState.REFUSED, JobState.CRASHED):
            self._print(f"error: {job.name}: {job.errors[0]}", plain=True)
        elif self._progress is None:
            self._print(f"{job.state.value} {job.name}: {count_text(job) or 'no run'}")
        self._update(job)

    def show_interrupt(self, count: int) -> None:
        """Show that the user interrupted, and what happens now."""
        texts = ("ending the running jobs; again to end them at once", "ending them at once")
        self._doing = dict.fromkeys(self._doing, "ending")
        self._print(f"interrupted: {texts[min(count, 2) - 1]}", plain=True)
        self._update()

    def _place(self, job: Job) -> str:
        jobs = self._sweep.running
        return f"job {jobs.index(job) + 1} of {len(jobs)}"

    def _update(self, job: Job | None = None) -> None:
        if self._progress is None:
            return
        running = [job for job in self._sweep.running if job.state is JobState.RUNNING]
        if len(running) > 1:
            over = sum(job.state is not JobState.WAITING for job in self._sweep.running)
            place = f"{len(running)} jobs, {over - len(running)} of {len(self._sweep.running)} done"
        else:
            place = self._place(job) if job is not None else ""
        self._progress.update(
            self._task,
            description=escape("  ".join(filter(None, (place, self._describe_doing())))),
            completed=self._done,
            total=max(self._total, self._done),
            left=duration_text(self.left_s()),
        )

    def _describe_doing(self) -> str:
        """What goes on: a job that measures comes before one that waits for it."""
        doing = sorted(self._doing.items(), key=lambda item: item[0] in self._waiting)
        return doing[0][1] if doing else ""

    def _print(self, text: str, status: str = "", *, plain: bool = False) -> None:
        """Print a line, above the bar if there is one; `plain`: the same on every screen."""
        if self._progress is None:
            stamp = "" if plain else f"{time.strftime('%Y-%m-%d %H:%M:%S')} "
            print_line(
                f"{stamp}{status} {text}".strip() if status else f"{stamp}{text}", error=True
            )
            return
        mark = STATUS_MARKS.get(status, f"[bold red]{status}[/]") if status else ""
        if status == "warning":
            mark = "[yellow]warning[/]"
        self._console.print(
            f"{mark} {escape(text)}".strip(), highlight=False, emoji=False, soft_wrap=True
        )


def count_text(job: Job) -> str:
    """How many runs of a job ended in which way, and how many are missing."""
    parts = [f"{n} {status}" for status, n in job.counts.items()]
    missing = (job.runs or 0) - sum(job.counts.values())
    return ", ".join([*parts, *([f"{missing} not run"] if missing > 0 else [])])


def print_sweep(sweep: Sweep) -> None:
    """Print the closing table on stdout, then what failed and the commands that repeat it."""
    console = open_stdout()
    console.print(_make_table(sweep))
    for line in closing_lines(sweep):
        console.print(line, highlight=False, soft_wrap=True)


def _make_table(sweep: Sweep) -> Table:
    """One row per job: what it differs in, how it ended, its runs by status, its duration."""
    jobs = sweep.jobs
    took = duration_text(time.monotonic() - sweep.begin)
    table = Table(title=f"sweep: {len(jobs)} jobs, {took}", title_justify="left")
    table.add_column("job", justify="right")
    table.add_column("overrides", overflow="fold")
    table.add_column("result")
    found = {status for job in jobs for status in job.counts}
    statuses = [s.value for s in Status if s.value in found or s is Status.PASSED]
    for name in (*statuses, "runs", "duration"):
        table.add_column(name, justify="right")
    for job in jobs:
        table.add_row(
            str(job.number),
            job.differs or "-",
            "not started" if job.state is JobState.WAITING else job.state.value,
            *(str(job.counts.get(status) or "-") for status in statuses),
            "-" if job.runs is None else str(job.runs),
            "-" if job.duration_s is None else duration_text(job.duration_s),
        )
    return table


def closing_lines(sweep: Sweep) -> list[str]:
    """The lines below the table: failures with their commands, files, what is left."""
    lines = []
    for job in sweep.jobs:
        if job.state in FAILURES:
            lines.append(f"{job.state.value}: {job.name}")
            lines += [f"  {error}" for error in job.errors]
            lines.append(f"  to repeat: {resume_command(shown_path(job.directory))}")
    folder = shown_path(sweep.directory)
    lines.append(f"summary   {folder / SWEEP_SUMMARY}")
    if (sweep.directory / JOB_LOGS).is_dir():
        lines.append(f"job logs  {folder / JOB_LOGS}")
    left = [job for job in sweep.jobs if job.state is not JobState.PASSED]
    if left and len(sweep.jobs) > 1:
        begin = "interrupted: " if sweep.interrupted else ""
        lines.append(
            f"{begin}{len(left)} of {len(sweep.jobs)} jobs are not done; to run what is left: "
            f"{resume_command(folder)}"
        )
    return lines
