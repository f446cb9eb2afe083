"""A process that runs a study of fake workers, for tests that send it signals."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from numa_bench.study_files import read_records
from numa_bench.versions import PROJECT
from tests.fake_worker import LIMIT_S, carriers, drive_argv, make_plan, model_names, wait_until


class Driver:
    """A process that runs a study of fake workers m0, m1, ..."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.mark = f"NUMA_BENCH_TEST={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        behaviours = [word for word in words if not word.startswith("--")]
        self.runs = make_plan(model_names(len(behaviours))).runs
        self.process = subprocess.Popen(
            drive_argv(directory, *words),
            cwd=PROJECT,
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def has(self, index: int, name: str) -> bool:
        """Whether the run of that number made this file. Fails when the driver has ended."""
        assert self.process.poll() is None, self.process.communicate()
        return (self.directory / "runs" / self.runs[index].run_id / name).exists()

    def wait_for(self, index: int, name: str) -> None:
        wait_until(lambda: self.has(index, name), f"run {index} makes {name}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        _, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, err.decode()

    def records(self) -> list[dict[str, Any]]:
        return [dict(record) for record in read_records(self.directory / "results.json")]

    def clear(self) -> None:
        """Kill the driver and all that it left."""
        self.process.kill()
        self.process.communicate()
        for pid in carriers(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
