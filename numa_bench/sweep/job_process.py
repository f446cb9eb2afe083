"""One job of a sweep in a process of its own: started, listened to, ended, explained."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from numa_bench.isolation.marked_processes import kill_runs_of
from numa_bench.runner.interrupts import block_time_out_signals
from numa_bench.runner.process import has_ended, open_pidfd
from numa_bench.study_files import JOB_LOGS
from numa_bench.sweep.state import Job, JobState, Sweep
from numa_bench.versions import import_variables

#: The module whose process a job is.
MODULE = "numa_bench.commands.sweep_job"
#: How a job's process ends when nothing goes wrong beyond what it reports.
_STATES = {
    0: JobState.PASSED,
    1: JobState.FAILED,
    2: JobState.REFUSED,
    130: JobState.INTERRUPTED,
}


@dataclass(frozen=True)
class JobTask:
    """What Hydra's launcher gets for one job. `argv`: how the user started the sweep."""

    hydra_context: HydraContext
    config: DictConfig
    overrides: tuple[str, ...]
    number: int
    argv: tuple[str, ...]


class JobProcess:
    """The process of a job, in a session of its own, so that Ctrl-C reaches the sweep alone."""

    def __init__(self, job: Job, task: JobTask, sweep: Sweep) -> None:
        self.job = job
        self._begin = time.monotonic()
        self._pending = b""
        self._end: dict[str, Any] | None = None
        self._stack = contextlib.ExitStack()
        self.log = sweep.directory / JOB_LOGS / f"{job.number}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_size = self.log.stat().st_size if self.log.exists() else 0
        self.events, write_end = os.pipe2(os.O_CLOEXEC)
        self._stack.callback(os.close, self.events)
        os.set_blocking(self.events, False)
        try:
            self._process = self._start(task, write_end)
        finally:
            os.close(write_end)
        self.pidfd = self._stack.enter_context(open_pidfd(self._process.pid))

    def _start(self, task: JobTask, write_end: int) -> subprocess.Popen[bytes]:
        isolation = OmegaConf.to_container(task.config.isolation, resolve=True)
        argv = [sys.executable, "-m", MODULE, str(write_end), str(os.getpid())]
        with (
            tempfile.TemporaryFile() as stdin,
            self.log.open("ab") as log,
            block_time_out_signals(),
        ):
            pickle.dump(task, stdin)
            stdin.seek(0)
            return subprocess.Popen(
                [*argv, json.dumps(isolation)],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **import_variables(os.environ)},
                pass_fds=(write_end,),
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; it is not reaped before `finish`."""
        return has_ended(self._process.pid)

    def ask_to_end(self) -> None:
        """Interrupt the job as Ctrl-C does; a second time it ends at once."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process without asking."""
        self._process.kill()

    def read_events(self) -> list[dict[str, Any]]:
        """What the job has reported since the last call."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.events, 65536):
                self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        events = [json.loads(line) for line in lines]
        self._end = next((e for e in events if e["event"] == "exit"), self._end)
        return events

    def finish(self) -> None:
        """Reap the process and what it left running, and note how the job ended."""
        kill_runs_of(self._process.pid)
        # Reaped only here: until then its number is no other process's.
        code = self._process.wait()
        self._stack.close()
        state, error = self._explain(code)
        self.job.end(state, error, time.monotonic() - self._begin)

    def close(self) -> None:
        """Leave nothing behind after an error of the sweep itself."""
        if self._process.returncode is None:
            self.kill()
            kill_runs_of(self._process.pid)
            self._process.wait()
        self._stack.close()

    def _explain(self, code: int) -> tuple[JobState, str | None]:
        """State and error of a job whose process ended with this code."""
        if self._end is not None:
            return _STATES[self._end["code"]], self._end["error"]
        if code == 130:
            return JobState.INTERRUPTED, None
        if code < 0:
            how = f"its process was killed by {_signal_name(-code)}"
        else:
            how = f"its process exited with status {code} by itself"
        said = self._last_line()
        return JobState.CRASHED, f"{how}{f' ({said})' if said else ''}; see {self.log}"

    def _last_line(self) -> str:
        """The line with which Python names a fatal error, if this start wrote one to the log."""
        with self.log.open("rb") as file:
            file.seek(self._log_size)
            lines = file.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("Fatal ")), "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def list_waiting(processes: Sequence[JobProcess]) -> list[int]:
    """The descriptors that become readable when one of the processes reports or ends."""
    pidfds = [process.pidfd for process in processes if process.pidfd is not None]
    return [*pidfds, *(process.events for process in processes)]
