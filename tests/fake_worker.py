"""Stand-ins for the worker that end in every way a process can, and what tests need around them.

python tests/fake_worker.py BEHAVIOUR --spec S --result R --spare-result X
python -m tests.fake_worker drive DIRECTORY BEHAVIOUR...     a study of such workers
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine.model import NumaNode, Topology
from numa_bench.records import RunResult, RunSpec
from numa_bench.worker.lifeline import die_with_starter, write_started

if TYPE_CHECKING:
    from numa_bench.plan.plan import Plan
    from numa_bench.runner.process import Command
    from numa_bench.study_files import RunPaths

PROJECT = Path(__file__).resolve().parent.parent
#: Written beside the result when a worker that hangs is ready to be stopped, and on its SIGTERM.
READY, GOT_SIGTERM = "ready", "got_sigterm"
#: What a worker waits for that is to end later.
GO = "go"
#: Output of a worker that talks too much.
HUGE_LOG_BYTES = 2**36
#: How long a test waits for something that takes milliseconds on an idle machine.
LIMIT_S = 60.0
#: When this process began, on the clock of all processes.
BEGIN_S = time.monotonic()


SAMPLES = {"h2d_ms": [0.1] * 12, "compute_ms": [1.0] * 12, "d2h_ms": [0.1] * 12}


class FakeRun:
    """One run of the fake worker; every public method is a behaviour."""

    def __init__(self, spec: Path, result: Path, spare: Path) -> None:
        self._spec = RunSpec.from_dict(read_json(spec))
        self._result = result
        self._spare = spare

    def good(self) -> int:
        return self._end("passed")

    def timed(self) -> int:
        """Leaves the times of its process beside its result."""
        return self._end("passed", observed={"window_monotonic_s": [BEGIN_S, time.monotonic()]})

    def waived(self) -> int:
        return self._end("waived", error="no such thing here")

    def invalid(self) -> int:
        return self._end("invalid", error="memory was elsewhere")

    def raises(self) -> int:
        try:
            raise RuntimeError("shapes do not fit")
        except RuntimeError as error:
            traceback.print_exc()
            self._end("failed", error=f"RuntimeError: {error}")
        return 1

    def raises_markup(self) -> int:
        """What PyTorch says when host memory runs out, and worse."""
        self._end(
            "failed", error="RuntimeError: [enforce fail at alloc_cpu.cpp:114] [/nowhere] :x:"
        )
        return 1

    def latin1(self) -> int:
        os.write(2, b"caf\xe9 \xff\xfe cannot be opened\n")
        self._end("failed", error="OSError")
        return 1

    def segfault(self) -> NoReturn:
        self._kill_self(signal.SIGSEGV)

    def killed(self) -> NoReturn:
        """As the kernel does when memory runs out: after the result, even."""
        self._end("passed")
        self._kill_self(signal.SIGKILL)

    def half(self) -> int:
        self._result.write_text('{"run_id": "half a fi')
        return 0

    def silent(self) -> int:
        return 0

    def binary(self) -> int:
        self._result.write_bytes(b"\xff\xfe\x00")
        return 0

    def other_shape(self) -> int:
        self._result.write_text('["passed"]')
        return 0

    def passed_exit_3(self) -> int:
        self._end("passed")
        return 3

    def failed_exit_0(self) -> int:
        return self._end("failed", error="said so")

    def other_run(self) -> int:
        return self._end("passed", run_id="another_r0-abcdef")

    def no_throughput(self) -> int:
        return self._end("passed", throughput=float("nan"))

    def uneven_samples(self) -> int:
        return self._end("passed", samples={**SAMPLES, "d2h_ms": [0.1]})

    def missing_samples(self) -> int:
        return self._end("passed", samples={"compute_ms": [1.0, 2.0]})

    def hang(self) -> NoReturn:
        self._hang()

    def waits_for_go(self) -> int:
        """Ends well when a test says so."""
        (self._result.parent / READY).touch()
        wait_until((self._result.parent / GO).exists, "go")
        return self._end("passed")

    def stubborn(self) -> NoReturn:
        """Hangs, and does not end by SIGTERM."""
        note = self._result.parent / GOT_SIGTERM
        signal.signal(signal.SIGTERM, lambda *_: note.touch())
        self._hang()

    def hangs_in_c(self) -> NoReturn:
        """In a call that no signal handler of Python interrupts, with SIGTERM blocked."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        (self._result.parent / READY).touch()
        libc = ctypes.PyDLL(None)  # holds the interpreter's lock
        while True:
            libc.pause()

    def huge_log(self) -> int:
        """Fails after an output of gigabytes, of which the disk has nothing but the end."""
        for descriptor in (1, 2):
            os.lseek(descriptor, HUGE_LOG_BYTES, os.SEEK_SET)
            os.write(descriptor, b"\nthe end\n")
        self._end("failed", error="said so")
        return 1

    def leaves_child(self) -> int:
        self._child(new_session=True)
        return self._end("passed")

    def leaves_child_in_group(self) -> int:
        self._child(new_session=False)
        return self._end("passed")

    def hangs_with_child(self) -> NoReturn:
        self._child(new_session=True)
        self._hang()

    def fills_disk(self) -> int:
        """Use up the study's disk, then do what the worker does with its result."""
        study = self._result.parent.parent.parent
        for size in (4096, 1):
            with (study / "filler").open("ab", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass
        return self._end("passed")

    def spare_result(self) -> int:
        """What a worker does that cannot write its result into the study."""
        self._result = self._spare
        return self._end("passed")

    def _end(
        self,
        status: str,
        error: str | None = None,
        run_id: str | None = None,
        throughput: float = 100.0,
        samples: dict[str, list[float]] | None = None,
        observed: dict[str, Any] | None = None,
    ) -> int:
        spec = self._spec
        result = RunResult(run_id or spec.run_id, spec.cell_hash(), status, error)
        if status == "passed":
            result.metrics = {"throughput_samples_per_s": throughput, "measured_s": 0.5}
            result.samples = samples or SAMPLES
            result.observed = observed or {}
        try:
            write_json(self._result, result.to_dict())
        except OSError:
            from numa_bench.worker import __main__ as worker

            worker.Files(self._result, self._spare).write_result(result)
        return 0

    def hang_in_range(self) -> NoReturn:
        """Under nsys: inside an NVTX range that its report must show."""
        import nvtx

        nvtx.push_range("hanging")
        nvtx.pop_range()
        (self._result.parent / READY).touch()
        while True:
            signal.pause()

    def _hang(self) -> NoReturn:
        die_with_starter(under_profiler=self._spec.profile.kind == "nsys")
        (self._result.parent / READY).touch()
        while True:
            signal.pause()

    def _child(self, new_session: bool) -> None:
        code = (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile 1: signal.pause()"
        )
        subprocess.Popen([sys.executable, "-c", code], start_new_session=new_session)

    def _kill_self(self, number: int) -> NoReturn:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), number)
        raise AssertionError("the signal should have ended this process")


def main(argv: Sequence[str]) -> int:
    """The fake worker's command line, or the driver's."""
    if argv[0] == "drive":
        return drive(argv[1:])
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    for name in ("--spec", "--result", "--spare-result"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--started", "--wait-for"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    if args.started is not None:
        write_started(args.started)
    run: Callable[[], int] = getattr(
        FakeRun(args.spec, args.result, args.spare_result), args.behaviour
    )
    return run()


# What tests need around it. Whatever it takes is imported late: a worker has to start quickly.

TOPOLOGY = Topology(
    nodes=(
        NumaNode(0, (0, 1), 64_000_000_000, {0: 10, 1: 21}),
        NumaNode(1, (2, 3), 32_000_000_000, {0: 21, 1: 10}),
    ),
    gpus=(),
)


def fake_argv(behaviour: str, paths: RunPaths) -> tuple[str, ...]:
    """The command line of a fake worker that works on these files."""
    words = [sys.executable, __file__, behaviour, "--spec", paths.spec, "--result", paths.result]
    return tuple(map(str, [*words, "--spare-result", paths.spare_result]))


def fake_command(behaviours: dict[str, str]) -> Callable[..., Command]:
    """What to put in place of `attempt.worker_command`: a model's name chooses the behaviour."""
    from numa_bench.runner.command import worker_command

    def command(spec: RunSpec, paths: RunPaths, *rest: Any) -> Command:
        real = worker_command(spec, paths, *rest)
        return replace(real, argv=fake_argv(behaviours[spec.vit.name], paths))

    return command


def make_plan(
    models: Sequence[str], *, repeats: int = 1, timeout_s: float = 300.0, **output: Any
) -> Plan:
    """Unbound runs of these models, one after the other; `output` are OutputConfig settings."""
    from numa_bench.config.schemas.output import OutputConfig
    from numa_bench.plan.plan import Plan
    from tests.specs import VIT, make_spec

    cells = [
        replace(make_spec(vit=replace(VIT, name=name), timeout_s=timeout_s), study="fake")
        for name in models
    ]
    runs = [
        replace(cell, run_id=f"{cell.vit.name}_r{repeat}-{cell.cell_hash()[:6]}", repeat=repeat)
        for repeat in range(repeats)
        for cell in cells
    ]
    return Plan(
        "fake",
        tuple(cells),
        tuple(runs),
        OutputConfig(**output),
        order="sequential",
        order_seed=0,
        monitor_interval_s=0.0,  # what else runs here must not mark a fake run
    )


def drive(argv: Sequence[str]) -> int:
    """Run a study of fake workers m0, m1, ... and end as the runner's entry point does."""
    from numa_bench.config.hydra.app import run_app
    from numa_bench.config.schemas.isolation import IsolationConfig
    from numa_bench.records import DeviceSpec
    from numa_bench.runner import study, worker_run
    from numa_bench.terminal.streams import guard_streams

    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("behaviours", nargs="+")
    parser.add_argument("--grace-s", type=float, default=LIMIT_S)
    parser.add_argument("--nohup", action="store_true")
    parser.add_argument("--exclusive", default="host")
    parser.add_argument("--wait-limit-s", type=float)
    parser.add_argument("--gpu", type=int, help="the runs are of this GPU, as far as locks go")
    args = parser.parse_args(argv)
    guard_streams()
    # As from a user's shell, also where the tests run in the background or under nohup.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if args.nohup else signal.SIG_DFL)
    names = model_names(len(args.behaviours))
    command = fake_command(dict(zip(names, args.behaviours, strict=True)))
    mock.patch.object(worker_run, "worker_command", command).start()
    isolation = IsolationConfig(exclusive=args.exclusive, wait_limit_s=args.wait_limit_s)
    plan = replace(make_plan(names, grace_s=args.grace_s), isolation=isolation)
    if args.gpu is not None:
        gpu = DeviceSpec("cuda", args.gpu, "H100", f"GPU-{args.gpu}", 0)
        runs = tuple(replace(run, device=gpu) for run in plan.runs)
        plan = replace(plan, cells=runs, runs=runs)
    return run_app(lambda: study.run_study(plan, TOPOLOGY, args.directory))


def model_names(count: int) -> list[str]:
    """m0, m1, ..."""
    return [f"m{index}" for index in range(count)]


def drive_argv(directory: Path, *words: str) -> list[str]:
    """The command line of the driver; run it with `cwd=PROJECT`."""
    return [sys.executable, "-m", "tests.fake_worker", "drive", str(directory), *words]


def wait_until(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Look until it holds; fail with `what` after a time that no healthy machine needs."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {limit_s:g} s in vain: {what}"
        time.sleep(0.02)


def carriers(variable: str) -> list[int]:
    """Living processes with this NAME=VALUE in their environment, without this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if variable.encode() in environ.split(b"\0"):
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
