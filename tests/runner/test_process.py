"""Runs end in every way a process can end, and nothing survives them."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.records import RUN_TOKEN
from numa_bench.runner import process as executor
from numa_bench.runner.command import worker_environment
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.process import Command, Ended, run_process
from numa_bench.store import StudyStore
from numa_bench.study_files import read_records
from numa_bench.versions import PROJECT
from tests.fake_worker import (
    GOT_SIGTERM,
    LIMIT_S,
    READY,
    carriers,
    drive_argv,
    fake_argv,
    make_plan,
    model_names,
    wait_until,
)
from tests.specs import make_spec

#: Timeouts that must not pass in a test, and that must pass quickly.
NEVER_S, SOON_S = 300.0, 0.3


class Bench:
    """Runs fake workers in a directory, with a token of their own."""

    def __init__(self, root: Path) -> None:
        self.token = uuid.uuid4().hex
        self.spec = make_spec()
        self.paths = StudyStore(root).prepare_run(self.spec)

    def run(self, behaviour: str, **limits: Any) -> Ended:
        return self.run_argv(fake_argv(behaviour, self.paths), **limits)

    def run_argv(
        self,
        argv: tuple[str, ...],
        timeout_s: float = NEVER_S,
        grace_s: float = NEVER_S,
        interruptions: int = 0,
    ) -> Ended:
        """Run it; `interruptions` have come already."""
        command = Command(argv, worker_environment(self.spec, os.environ, self.token), self.token)
        with Interrupts() as interrupts:
            interrupts.count = interruptions
            return run_process(
                command,
                self.paths.stdout,
                self.paths.stderr,
                timeout_s=timeout_s,
                grace_s=grace_s,
                interrupts=interrupts,
            )

    def run_interrupted(self, behaviour: str) -> Ended:
        """Run it, and send this process SIGINT when it is ready."""
        ready = self.paths.result.parent / READY

        def interrupt() -> None:
            wait_until(ready.exists, f"{behaviour} is ready")
            ready.unlink()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        ended = self.run(behaviour)
        thread.join()
        return ended

    def survivors(self) -> list[int]:
        return carriers(f"{RUN_TOKEN}={self.token}")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose workers are all gone afterwards, whatever the test found."""
    made = Bench(tmp_path)
    yield made
    survivors = made.survivors()
    for pid in survivors:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert survivors == []


@pytest.fixture
def children_ignore_sigterm() -> Iterator[None]:
    """An ignored signal stays ignored in what is started, from its first instruction on."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def sigint_on() -> Iterator[None]:
    """SIGINT as at an interactive shell, also where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_run_that_passes(bench: Bench) -> None:
    ended = bench.run("good")
    assert (ended.returncode, ended.reason, ended.leftovers) == (0, "exited", ())
    assert ended.start_error is None
    assert ended.duration_s > 0
    assert read_json(bench.paths.result)["status"] == "passed"


def test_a_run_that_raises_leaves_its_traceback(bench: Bench) -> None:
    ended = bench.run("raises")
    assert (ended.returncode, ended.reason) == (1, "exited")
    assert "Traceback" in bench.paths.stderr.read_text()
    assert "RuntimeError: shapes do not fit" in bench.paths.stderr.read_text()


@pytest.mark.parametrize(
    ("behaviour", "number"), [("segfault", signal.SIGSEGV), ("killed", signal.SIGKILL)]
)
def test_a_run_that_dies_by_a_signal(bench: Bench, behaviour: str, number: int) -> None:
    ended = bench.run(behaviour)
    assert (ended.returncode, ended.reason) == (-number, "exited")


def test_output_goes_to_its_files_as_it_is(bench: Bench) -> None:
    assert bench.run("latin1").returncode == 1
    assert bench.paths.stderr.read_bytes().startswith(b"caf\xe9 \xff\xfe")
    assert bench.paths.stdout.read_bytes() == b""


def test_a_program_that_is_not_there(bench: Bench) -> None:
    ended = bench.run_argv(("no-such-numactl", "--membind=0"))
    assert (ended.returncode, ended.reason) == (None, "exited")
    assert "no-such-numactl" in str(ended.start_error)


def test_logs_that_cannot_be_written(bench: Bench) -> None:
    bench.paths.stderr.mkdir()
    ended = bench.run("good")
    assert ended.returncode is None
    assert str(bench.paths.stderr) in str(ended.start_error)


def test_sigterm_ends_a_run_that_lasts_too_long(bench: Bench) -> None:
    ended = bench.run("hang", timeout_s=SOON_S)
    assert (ended.returncode, ended.reason) == (-signal.SIGTERM, "timeout")


@pytest.mark.slow
@pytest.mark.usefixtures("children_ignore_sigterm")
def test_sigkill_ends_a_run_that_ignores_sigterm(bench: Bench) -> None:
    ended = bench.run("hang", timeout_s=SOON_S, grace_s=SOON_S)
    assert (ended.returncode, ended.reason) == (-signal.SIGKILL, "timeout")
    assert ended.leftovers == ()  # the run itself is none


@pytest.mark.slow
@pytest.mark.usefixtures("children_ignore_sigterm")
def test_a_run_may_end_by_itself_in_the_grace_period(bench: Bench) -> None:
    """It ignores SIGTERM, and ends only when asked to: nsys writes its report like that."""
    waits = "import sys,time; time.sleep(0.8); sys.exit(7)"
    ended = bench.run_argv((sys.executable, "-c", waits), timeout_s=SOON_S)
    assert (ended.returncode, ended.reason) == (7, "timeout")


def test_a_long_timeout_is_not_too_long_for_select(bench: Bench) -> None:
    assert bench.run("good", timeout_s=float("inf")).returncode == 0


@pytest.mark.parametrize("behaviour", ["leaves_child", "leaves_child_in_group"])
def test_what_a_run_leaves_behind_is_killed_and_named(bench: Bench, behaviour: str) -> None:
    ended = bench.run(behaviour)
    assert (ended.returncode, ended.reason) == (0, "exited")
    (name,) = ended.leftovers
    assert re.fullmatch(r"python\S* \(\d+\)", name)
    assert bench.survivors() == []


@pytest.mark.usefixtures("sigint_on")
def test_descendants_in_other_sessions_end_too(bench: Bench) -> None:
    ended = bench.run_interrupted("hangs_with_child")
    assert (ended.returncode, ended.reason) == (-signal.SIGTERM, "interrupted")
    assert len(ended.leftovers) == 1
    assert bench.survivors() == []


def test_a_descendant_without_the_token_dies_with_the_group(bench: Bench, tmp_path: Path) -> None:
    """env -i drops the token; being in the group is enough."""
    script = f"env -i sleep {10 * LIMIT_S:g} & echo $! > {tmp_path / 'pid'}"
    ended = bench.run_argv(("sh", "-c", script))
    pid = int((tmp_path / "pid").read_text())
    assert ended.returncode == 0
    wait_until(lambda: not _alive(pid), "the sleep is gone")


def test_a_process_that_starts_another_one_leaves_none(bench: Bench) -> None:
    """A chain in which every process starts the next in a session of its own."""
    chain = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[1]],"
        " start_new_session=True)\n"
        f"time.sleep({LIMIT_S:g} if sys.argv[2:] == [] else 0)\n"
    )
    ended = bench.run_argv((sys.executable, "-c", chain, chain, "first"))
    assert ended.returncode == 0
    assert ended.leftovers
    assert bench.survivors() == []


def test_the_run_is_in_a_group_of_its_own(bench: Bench) -> None:
    """Ctrl-C on the terminal reaches the runner alone, which then decides."""
    show = "import os; print(os.getpgrp() == os.getsid(0) == os.getpid())"
    assert bench.run_argv((sys.executable, "-c", show)).returncode == 0
    assert bench.paths.stdout.read_text() == "True\n"


def _no_pidfd(error: BaseException) -> Callable[[int], int]:
    def pidfd_open(_pid: int) -> int:
        raise error

    return pidfd_open


@pytest.mark.slow
@pytest.mark.usefixtures("sigint_on")
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSYS, "old kernel"), AttributeError("old build")]
)
def test_without_pidfd_it_works_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(os, "pidfd_open", _no_pidfd(error))
    assert bench.run("good").returncode == 0
    ended = bench.run("hang", timeout_s=SOON_S)
    assert (ended.returncode, ended.reason) == (-signal.SIGTERM, "timeout")
    bench.paths.result.with_name(READY).unlink(missing_ok=True)
    ended = bench.run_interrupted("hang")
    assert (ended.returncode, ended.reason) == (-signal.SIGTERM, "interrupted")


def test_a_process_that_sigkill_does_not_end_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck driver call must not hang the whole study."""

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        assert timeout is not None, "it would wait for ever"
        raise subprocess.TimeoutExpired(self.args, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", wait)
        ended = bench.run("hang", timeout_s=SOON_S)
    assert (ended.returncode, ended.reason) == (None, "timeout")


@pytest.mark.parametrize(
    ("before", "after", "kills"),
    [("oom_kill 3\n", "oom_kill 5\n", 2), ("oom_kill 3\n", "oom_kill 3\n", 0), ("", "", 0)],
)
def test_kills_for_memory_are_counted_over_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, before: str, after: str, kills: int
) -> None:
    texts = iter([before, after])
    real = Path.read_text

    def read_text(path: Path, *args: Any, **kwargs: Any) -> str:
        return next(texts) if str(path) == "/proc/vmstat" else real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert bench.run("silent").oom_kills == kills


# Interruptions: in this process, as far as they can be had without a race.


def test_an_interruption_before_the_start_is_not_forgotten(bench: Bench) -> None:
    """It came after the study's last look, while the run's files were prepared."""
    argv = (sys.executable, "-c", "import time; time.sleep(3)")
    ended = bench.run_argv(argv, interruptions=1)
    assert (ended.returncode, ended.reason) == (-signal.SIGTERM, "interrupted")


@pytest.mark.usefixtures("children_ignore_sigterm")
def test_two_interruptions_before_the_start_end_it_at_once(bench: Bench) -> None:
    argv = (sys.executable, "-c", "import time; time.sleep(3)")
    ended = bench.run_argv(argv, interruptions=2)
    assert (ended.returncode, ended.reason) == (-signal.SIGKILL, "interrupted")


class _HandlerStillToRun(Interrupts):
    """The time between a signal and the bytecode at which Python runs the handler."""

    def _note(self, *_: object) -> None: ...


@pytest.mark.usefixtures("sigint_on")
def test_a_signal_wakes_a_select_before_python_runs_its_handler() -> None:
    """Else a signal between the last bytecode and select() would be slept over."""
    with _HandlerStillToRun() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert select.select([interrupts.fd], [], [], 10.0)[0] == [interrupts.fd]
        interrupts.drain()
        assert select.select([interrupts.fd], [], [], 0)[0] == []


def test_interrupts_restores_what_was_there() -> None:
    def handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    wakeup = signal.set_wakeup_fd(writer)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGTERM) is not handler
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.set_wakeup_fd(wakeup) == writer
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before)
        os.close(reader)
        os.close(writer)


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.count == 0
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_heard_and_runs_work(bench: Bench) -> None:
    ended: list[Ended] = []
    thread = threading.Thread(target=lambda: ended.append(bench.run("good")))
    thread.start()
    thread.join()
    assert [e.returncode for e in ended] == [0]


# Interruptions: real signals to a process that runs a study.


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


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Starts drivers, and clears away what they left."""
    drivers: list[Driver] = []

    def start(*words: str) -> Driver:
        drivers.append(Driver(tmp_path / "study", *words))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.communicate()
        for pid in carriers(driver.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_the_run_and_the_study(drive: Callable[..., Driver], number: int) -> None:
    driver = drive("good", "hang", "good")
    driver.wait_for(1, READY)
    assert [r["status"] for r in driver.records()] == ["passed"]
    driver.signal(number)
    code, err = driver.end()
    assert code == 130
    assert "Traceback" not in err
    first, second = driver.records()
    assert (first["status"], second["status"]) == ("passed", "interrupted")
    assert second["run_id"] == driver.runs[1].run_id
    assert second["exit_code"] == -signal.SIGTERM
    assert second["error"] == "interrupted by the user"
    summary = read_json(driver.directory / "experiment_summary.json")
    assert summary["interrupted"] is True
    assert summary["counts"]["interrupted"] == 1
    assert carriers(driver.mark) == []


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(drive: Callable[..., Driver]) -> None:
    """The worker ignores SIGTERM, and the grace period is longer than any test waits."""
    driver = drive("--grace-s=100000", "stubborn", "good")
    driver.wait_for(0, READY)
    driver.signal(signal.SIGINT)
    driver.wait_for(0, GOT_SIGTERM)
    driver.signal(signal.SIGINT)
    code, err = driver.end()
    assert code == 130
    assert "Traceback" not in err
    (record,) = driver.records()
    assert (record["status"], record["exit_code"]) == ("interrupted", -signal.SIGKILL)
    assert carriers(driver.mark) == []


@pytest.mark.slow
def test_a_killed_study_keeps_what_is_done_and_takes_its_worker_along(
    drive: Callable[..., Driver],
) -> None:
    driver = drive("good", "hang", "good")
    driver.wait_for(1, READY)
    driver.signal(signal.SIGKILL)
    assert driver.end()[0] == -signal.SIGKILL
    (kept,) = driver.records()
    assert (kept["run_id"], kept["status"]) == (driver.runs[0].run_id, "passed")
    wait_until(lambda: carriers(driver.mark) == [], "the worker died with its study")

    again = drive("raises", "good", "good")  # the first must not run again
    code, err = again.end()
    assert code == 0, err
    records = {record["run_id"]: record for record in again.records()}
    assert records[driver.runs[0].run_id] == kept
    assert [records[run.run_id]["attempt"] for run in driver.runs] == [1, 2, 1]
    assert [records[run.run_id]["status"] for run in driver.runs] == ["passed"] * 3
    assert (again.directory / "runs" / driver.runs[1].run_id / "attempt1" / "spec.json").is_file()


def test_the_worker_itself_dies_with_its_parent(tmp_path: Path) -> None:
    """The real one: it reads its spec from a pipe that nobody writes to, and its parent dies."""
    spec = tmp_path / "spec.json"
    os.mkfifo(spec)
    mark = f"NUMA_BENCH_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    start = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'numa_bench.worker', '--spec', sys.argv[1],"
        " '--result', sys.argv[1] + '.result'], start_new_session=True)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", start, str(spec)], cwd=PROJECT, env={**os.environ, name: value}
    )
    writers: list[int] = []

    def is_reading() -> bool:
        with suppress(OSError):  # nobody reads yet
            writers.append(os.open(spec, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    try:
        wait_until(is_reading, "the worker opens its spec")
        assert len(carriers(mark)) == 2
        parent.kill()
        parent.wait(LIMIT_S)
        wait_until(lambda: carriers(mark) == [], "the worker ends")
    finally:
        parent.kill()
        for pid in carriers(mark):
            os.kill(pid, signal.SIGKILL)
        for writer in writers:
            os.close(writer)


def test_the_reaped_process_is_the_last_to_go(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is a zombie, its number and its group's can belong to nobody else."""
    states: list[str] = []
    real = executor._signal_group

    def signal_group(pgid: int, number: int) -> None:
        text = Path(f"/proc/{pgid}/stat").read_text()
        states.append(text.rpartition(") ")[2][0])
        real(pgid, number)

    monkeypatch.setattr(executor, "_signal_group", signal_group)
    assert bench.run("good").returncode == 0
    assert states == ["Z"]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
