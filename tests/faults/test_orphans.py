"""Descendants that drop the environment and the session of their run do not survive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from numa_bench.isolation.orphans import RUNNER_MARK
from numa_bench.records import RUN_TOKEN
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command, Ended, run_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(2)")


def find(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A word in the command line of processes that must not outlive the test."""
    word = str(tmp_path / "orphan")
    yield word
    for pid in find(word):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_shell(script: str, tmp_path: Path, mark: str = "", timeout_s: float = 60.0) -> Ended:
    token = uuid.uuid4().hex
    argv = ("sh", "-c", script, "sh", mark)
    command = Command(argv, {**os.environ, RUN_TOKEN: token}, token)
    with Interrupts() as interrupts:
        return run_process(
            command,
            tmp_path / "out",
            tmp_path / "err",
            timeout_s=timeout_s,
            grace_s=0.1,
            interrupts=interrupts,
        )


#: Ignores SIGTERM, has no variable and a session of its own; `$1.up` says that it is there.
HIDDEN = """env -i setsid sh -c 'trap "" TERM; echo >"$0.up"; while :; do sleep 60; done' "$1" &
while [ ! -e "$1.up" ]; do sleep 0.01; done
"""


@pytest.mark.parametrize("ending", ["exit 0", "exec false", "wait"])
def test_a_descendant_without_environment_and_session_is_ended(
    tmp_path: Path, mark: str, ending: str
) -> None:
    ended = run_shell(HIDDEN + ending, tmp_path, mark, 1.0 if ending == "wait" else 60.0)
    assert ended.reason == ("timeout" if ending == "wait" else "exited")
    assert find(mark) == []
    assert any(name.startswith("sh (") for name in ended.leftovers)
    # Its `sleep` became an orphan when the shell was killed.
    assert any(name.startswith("sleep (") for name in ended.leftovers)
    assert RUNNER_MARK not in os.environ


def test_helpers_of_the_runner_are_left_alone(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, start_new_session=True, env={}) as helper:
        assert run_shell("exit 0", tmp_path).leftovers == ()
        assert helper.poll() is None
        assert helper.stdin is not None
        helper.stdin.close()
        assert helper.wait() == 0
