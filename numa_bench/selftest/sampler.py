"""The runner's monitor in a process of its own, as in a study.

    python -m numa_bench.selftest.sampler

It reads JSON lines: first {"spec": ..., "pid": ..., "interval_s": ...}, then {"sample": true} or
{"sample": false}, and answers each with one line. The answer to false says how many readings were
taken and how many seconds of CPU time they cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from numa_bench.records import JsonDict, RunSpec
from numa_bench.runner.monitor import Monitor


class Sampler:
    """The other end: starts and stops sampling of this process. Raises OSError or ValueError if the
    process does not answer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, message: JsonDict) -> JsonDict:
        """Send one message, return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer: JsonDict = json.loads(self._process.stdout.readline())
        return answer

    @contextlib.contextmanager
    def sample(self, costs: list[JsonDict]) -> Iterator[None]:
        """Sample inside; the costs are appended."""
        self.ask({"sample": True})
        try:
            yield
        finally:
            costs.append(self.ask({"sample": False}))


@contextlib.contextmanager
def start_sampler(spec: RunSpec, interval_s: float) -> Iterator[Sampler]:
    """A process that samples the sensors of this one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "numa_bench.selftest.sampler"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        sampler = Sampler(process)
        sampler.ask({"spec": spec.to_dict(), "pid": os.getpid(), "interval_s": interval_s})
        yield sampler
    finally:
        process.kill()
        process.communicate()


def serve(source: TextIO, target: TextIO) -> None:
    """Answer messages until the source ends."""
    first: JsonDict = json.loads(source.readline())
    spec = RunSpec.from_dict(first["spec"])
    _send(target, {"ready": True})
    while source.readline():
        # No file: readings stay in memory, as in a run until it ends.
        with Monitor(spec, Path(os.devnull), first["interval_s"]) as monitor:
            monitor.start_sampling(first["pid"])
            _send(target, {"sampling": True})
            source.readline()
        cost = monitor.to_dict()
        _send(target, {"readings": len(monitor.times), "cpu_s": cost["monitor_cpu_s"]})


def _send(target: TextIO, message: JsonDict) -> None:
    print(json.dumps(message), file=target, flush=True)


if __name__ == "__main__":
    # The runner is not bound as its workers are, so that its monitor can keep off their CPUs.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    serve(sys.stdin, sys.stdout)
