"""Runs the jobs of a sweep on this host, each in a process of its own, some at a time.

It takes the place of Hydra's basic launcher, which runs jobs in the sweep's own process, and of
joblib's, whose pool loses every job when one process dies and lives on when its owner is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from numa_bench.config.hydra.launchers import PLUGINS
from numa_bench.config.schemas.isolation import HOST
from numa_bench.runner.display.events import wants_bar
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import POLL_S
from numa_bench.sweep.display import SweepReporter
from numa_bench.sweep.job_process import JobProcess, JobTask, list_waiting
from numa_bench.sweep.preparation import find_current, note_current
from numa_bench.sweep.state import Job, Sweep

_REPLACED = (
    f"{BasicLauncher.__module__}.{BasicLauncher.__name__}",
    PLUGINS["joblib"].target,
)
#: After this many interruptions the processes of jobs are killed.
_KILL_AFTER = 3


class ProcessLauncher(Launcher):
    """A Hydra launcher; `n_jobs` as joblib has it: -1 is one for each CPU."""

    def __init__(self, n_jobs: int = 1, **_: Any) -> None:
        # Other settings of joblib's launcher have no effect; changed ones are refused before
        # (config.hydra.launchers.check_launcher).
        super().__init__()
        cpus = len(os.sched_getaffinity(0))
        self._n_jobs = n_jobs if n_jobs > 0 else max(1, cpus + 1 + n_jobs)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`."""
        self._context, self._function, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run these jobs; a job that fails or dies stops no other. Raises KeyboardInterrupt."""
        if self._config.dry_run:  # prints, and runs nothing
            basic = BasicLauncher()
            basic.setup(
                hydra_context=self._context, task_function=self._function, config=self._config
            )
            return basic.launch(job_overrides, initial_job_idx)
        sweep = find_current()
        if sweep is None:  # of a sweeper that chooses its jobs while it runs
            sweep = Sweep(Path(str(self._config.hydra.sweep.dir)).absolute(), [], [])
            note_current(sweep)
        tasks = [
            JobTask(self._context, self._config, tuple(words), initial_job_idx + i, tuple(sys.argv))
            for i, words in enumerate(job_overrides)
        ]
        waiting = deque((sweep.find_job(task.number, task.overrides), task) for task in tasks)
        jobs = [job for job, _ in waiting]
        sweep.directory.mkdir(parents=True, exist_ok=True)
        bar = wants_bar(self._config.output.progress)
        parallel = 1 if self._config.isolation.exclusive == HOST else self._n_jobs
        reporter = SweepReporter(sweep, bar=bar, parallel=min(parallel, len(jobs)))
        with Interrupts() as interrupts, reporter:
            _JobLoop(sweep, waiting, self._n_jobs, interrupts, reporter).run()
            sweep.interrupted = interrupts.count > 0
            sweep.save()
        if sweep.interrupted:
            raise KeyboardInterrupt
        return [_make_return(job) for job in jobs]


class _JobLoop:
    """Starts jobs when there is room, shows what they report, ends them when interrupted."""

    def __init__(
        self,
        sweep: Sweep,
        waiting: deque[tuple[Job, JobTask]],
        n_jobs: int,
        interrupts: Interrupts,
        reporter: SweepReporter,
    ) -> None:
        self._sweep = sweep
        self._waiting = waiting
        self._n_jobs = n_jobs
        self._interrupts = interrupts
        self._reporter = reporter
        self._passed_on = 0
        self._running: list[JobProcess] = []

    def run(self) -> None:
        """Return when no job is running, and none is to be started."""
        try:
            self._start_jobs()
            while self._running:
                self._sleep()
                self._pass_on_interrupts()
                for process in list(self._running):
                    self._listen(process)
                self._start_jobs()
        finally:
            for process in self._running:
                process.close()

    def _start_jobs(self) -> None:
        while self._waiting and len(self._running) < self._n_jobs and not self._interrupts.count:
            job, task = self._waiting.popleft()
            job.begin()
            self._reporter.show_job_start(job)
            self._running.append(JobProcess(job, task, self._sweep))
            self._sweep.save()

    def _sleep(self) -> None:
        """Sleep in the kernel until a job reports or ends, or a signal arrives."""
        unwatched = any(process.pidfd is None for process in self._running)
        watched = [self._interrupts.fd, *list_waiting(self._running)]
        select.select(watched, [], [], POLL_S if unwatched else None)
        self._interrupts.drain()

    def _pass_on_interrupts(self) -> None:
        while self._passed_on < self._interrupts.count:
            self._passed_on += 1
            self._reporter.show_interrupt(self._passed_on)
            for process in self._running:
                process.kill() if self._passed_on >= _KILL_AFTER else process.ask_to_end()

    def _listen(self, process: JobProcess) -> None:
        ended = process.has_ended  # asked first: what is in the pipe by then is all there is
        for event in process.read_events():
            self._reporter.show_event(process.job, event)
        if ended:
            self._running.remove(process)
            process.finish()
            self._reporter.show_job_end(process.job)
            self._sweep.save()


def _make_return(job: Job) -> JobReturn:
    # Completed in any case: an exception would keep Hydra from ending the sweep in order.
    done = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
    done.return_value = job.state.value
    return done


@contextlib.contextmanager
def replace_launchers() -> Iterator[None]:
    """Inside, Hydra runs jobs of the launchers of this host in processes of their own.

    Hydra accepts launchers of its own packages only, so theirs are replaced in its register.
    """
    register = Plugins.instance().class_name_to_class
    before = {name: register[name] for name in _REPLACED if name in register}
    register.update(dict.fromkeys(before, ProcessLauncher))
    try:
        yield
    finally:
        register.update(before)
