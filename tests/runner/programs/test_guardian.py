"""A command and all its descendants end when the runner, or their guardian, is killed."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from numa_bench.records import RUN_TOKEN
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command, Ended, run_process
from numa_bench.runner.programs.guardian import MODULE, Guardian
from tests.fake_worker import wait_until
from tests.faults.test_orphans import find
from tests.runner.programs.test_interruption import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(2)")

#: A daemon: a session of its own, no environment, no descriptors, no parent. {mark} is in its
#: command line, and {mark}.daemon says that it is there.
DAEMON = """import os, subprocess, sys
mark = sys.argv[1]
wait = "import time, pathlib, sys; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", wait, mark + ".daemon", mark], env={}, close_fds=True,
                 start_new_session=True)
"""
#: It starts the daemon, a child and itself.
COMMAND = """{python} {daemon} {mark}
sh -c 'while :; do sleep 60; done' {mark} &
setsid env -i sh -c 'while :; do sleep 60; done' {mark} &
while [ ! -e {mark}.daemon ]; do sleep 0.01; done
touch {mark}.up
sh -c 'while :; do sleep 60; done' {mark}
"""


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A word in the command line of processes that must not outlive the test."""
    word = str(tmp_path / "marked")
    yield word
    for pid in find(word):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def script(tmp_path: Path, mark: str) -> Path:
    daemon, path = tmp_path / "daemon.py", tmp_path / "work.sh"
    daemon.write_text(DAEMON)
    path.write_text(COMMAND.format(python=sys.executable, daemon=daemon, mark=mark))
    return path


@pytest.mark.slow
def test_a_killed_runner_leaves_no_process_of_a_command(
    tmp_path: Path, mark: str, script: Path
) -> None:
    with start(
        *("experiment=command_study", f"command=[sh,{script}]", f"output.root={tmp_path}/out"),
        *("experiment.repeats=1", "experiment.hardware.numa_nodes=unbound", "tracking=none"),
        *("experiment.hardware.device=cpu",),
    ) as runner:
        wait_until(Path(f"{mark}.up").exists, "the command is up")
        assert len(find(mark)) >= 4
        runner.kill()
        # Its output is closed by the last process that has it: guardian and command too.
        runner.communicate()
    wait_until(lambda: find(mark) == [], "the command and its descendants ended")


def find_guardians() -> list[psutil.Process]:
    """The guardians of this process, which may have children of other tests."""
    return [p for p in psutil.Process().children() if MODULE in p.cmdline()]


def run_guarded(guardian: Guardian, tmp_path: Path, *argv: str, timeout_s: float = 60.0) -> Ended:
    token = f"{os.getpid()}-{uuid.uuid4().hex}"
    command = Command(argv, {**os.environ, RUN_TOKEN: token}, token)
    with Interrupts() as interrupts:
        return run_process(
            command,
            tmp_path / "out",
            tmp_path / "err",
            timeout_s=timeout_s,
            grace_s=0.1,
            interrupts=interrupts,
            start=guardian.start,
            directory=str(tmp_path),
        )


@pytest.mark.slow
def test_a_guarded_command_is_run_as_any_other(tmp_path: Path, mark: str, script: Path) -> None:
    with Guardian() as guardian:
        guardian.prepare()
        before = find_guardians()
        ended = run_guarded(guardian, tmp_path, "sh", "-c", "echo here; pwd; exit 3")
        assert (ended.returncode, ended.reason, ended.leftovers) == (3, "exited", ())
        assert (tmp_path / "out").read_text() == f"here\n{tmp_path}\n"

        missing = run_guarded(guardian, tmp_path, str(tmp_path / "none"))
        assert "No such file" in (missing.start_error or "")

        late = run_guarded(guardian, tmp_path, "sh", str(script), timeout_s=3.0)
        assert (late.reason, late.returncode) == ("timeout", -signal.SIGTERM)
        assert find(mark) == []
        assert len(before) == 1
        assert find_guardians() == before
    assert find_guardians() == []


@pytest.mark.slow
def test_a_guardian_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with Guardian() as guardian:
        assert run_guarded(guardian, tmp_path, "true").succeeded
        (process,) = find_guardians()
        ended = run_guarded(
            guardian, tmp_path, "sh", "-c", f"kill -9 {process.pid}; exec sleep 600", timeout_s=1.0
        )
        assert ended.returncode is None
        assert run_guarded(guardian, tmp_path, "true").succeeded


@pytest.mark.slow
def test_a_command_gets_the_signals_that_its_guardian_ignores(tmp_path: Path) -> None:
    show = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    with Guardian() as guardian:
        assert run_guarded(guardian, tmp_path, sys.executable, "-c", show).succeeded
    assert (tmp_path / "out").read_text() == "True\n"
