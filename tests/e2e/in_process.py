"""Programs and workers as calls in this process: hundreds of runs without as many starts of Python.

A worker gets the same arguments, the same environment and the same binding as its process would.
What would take real time only, again for every run, is done once: a model's weights (the same seed
makes the same weights), the cost of its forward pass, its compilation; versions of packages.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import runpy
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from numa_bench.records import DeviceSpec, RunSpec
from numa_bench.records.workload import input_shape
from numa_bench.runner.command import gpu_environment
from numa_bench.runner.gpu_check import Probe
from numa_bench.runner.process import Command, Ended
from numa_bench.runner.sets.processes import SetProcess
from numa_bench.versions import package_versions
from numa_bench.worker import __main__ as worker
from numa_bench.worker import measurement, models
from numa_bench.worker.memory_kernels.team import ThreadTeam
from numa_bench.worker.probe import probe_gpu
from numa_bench.worker.sets.rendezvous import Clock
from tests.conftest import PROJECT
from tests.simulation import model_cost, numactl_shim

#: Pool of samples in MB where a study leaves it open; on a simulated link no cache needs defeating.
POOL_MB = 1
#: Most bytes of a batch where a study leaves its size open; every run touches them for real.
BATCH_BYTES = 5_000_000
#: Bytes of random samples that are made; repeated with an odd period, so that batches differ.
RANDOM_BYTES = 1_000_004


def run_worker(
    command: Command,
    stdout: Path,
    stderr: Path,
    *,
    started: Callable[[int], None],
    **_: object,
) -> Ended:
    """In place of `runner.process.run_process`: numactl's binding, then the worker's main."""
    begin = time.monotonic()
    environment, argv = dict(command.env), list(command.argv)
    if argv[0] == "numactl":
        machine = json.loads(Path(environment[numactl_shim.MACHINE]).read_text())
        record, argv = numactl_shim.bind(argv[1:], machine)
        environment[numactl_shim.BINDING] = json.dumps(record)
    assert argv[:3] == [sys.executable, "-m", "numa_bench.worker"]
    started(os.getpid())
    with (
        stdout.open("w") as out,
        stderr.open("w") as err,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", argv[2:]),
    ):
        code = worker.main(argv[3:])
    return Ended(code, "exited", time.monotonic() - begin)


#: When the rehearsal and the timed window of every set begin on the virtual clock, and when its
#: background workers stop: after the longest window of a test.
SET_STARTS, SET_END = (1000.0, 1001.0), 1008.0


class InProcessRendezvous:
    """In place of `worker.sets.rendezvous.Rendezvous`: workers of a set run one after the other, so
    each starts at the moment at which all would."""

    def __init__(self, _: int) -> None:
        self._starts = iter(SET_STARTS)
        self._clock: Clock | None = None

    def start_together(self, clock: Clock) -> float:
        """See `Rendezvous.start_together`."""
        self._clock, moment = clock, next(self._starts)
        clock.wait_until(moment)
        return moment

    def report_done(self) -> None:
        """See `Rendezvous.report_done`. The window must be one that background workers cover."""
        assert self._clock is not None
        assert self._clock.host_time() < SET_END

    def is_over(self) -> bool:
        """See `Rendezvous.is_over`."""
        return self._clock is not None and self._clock.host_time() >= SET_END


def run_together(
    workers: Sequence[SetProcess], *, started: Callable[[dict[str, int]], None], **_: object
) -> dict[str, Ended]:
    """In place of `runner.sets.processes.run_together`: one worker after the other."""
    started({one.name: os.getpid() for one in workers})
    return {
        one.name: run_worker(one.make_command(0), one.stdout, one.stderr, started=lambda _: None)
        for one in workers
    }


_one_probe = threading.Lock()


def run_probe(device: DeviceSpec, environ: dict[str, str]) -> Probe:
    """In place of `runner.gpu_check.run_probe`. A process has one environment: one at a time."""
    with _one_probe, mock.patch.dict(os.environ, gpu_environment(device, environ), clear=True):
        answer = probe_gpu()
    return Probe(device, *(answer[key] for key in ("uuid", "torch", "cuda", "error")))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run workers and probes of studies in this process from now on."""
    monkeypatch.setattr("numa_bench.commands.run.replace_launchers", contextlib.nullcontext)
    monkeypatch.setattr("numa_bench.runner.worker_run.run_process", run_worker)
    monkeypatch.setattr("numa_bench.runner.gpu_check.run_probe", run_probe)
    monkeypatch.setattr("numa_bench.runner.sets.attempt_set.run_together", run_together)
    monkeypatch.setattr("numa_bench.worker.sets.rendezvous.Rendezvous", InProcessRendezvous)
    # The CPUs of a simulated machine are not there to pin threads to.
    monkeypatch.setattr(ThreadTeam, "__enter__", lambda team: team)
    # The signal is for a parent that dies; this process is its own.
    monkeypatch.setattr(worker, "die_with_starter", lambda **_: None)
    versions = functools.cache(package_versions)
    monkeypatch.setattr(worker, "package_versions", versions)
    monkeypatch.setattr("numa_bench.plan.resolve.MIN_POOL_MB", POOL_MB)
    monkeypatch.setattr("numa_bench.plan.resolve.AUTO_BATCH_BYTES", BATCH_BYTES)
    monkeypatch.setattr("numa_bench.worker.buffers._RANDOM_BYTES", RANDOM_BYTES)
    monkeypatch.setattr("numa_bench.runner.study.make_trackers", lambda *_: [])
    # Threads that spin while they wait for one another take the other tests' CPUs.
    set_threads = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda _: set_threads(1))
    monkeypatch.setattr(measurement, "build_model", _build_model)
    monkeypatch.setattr(measurement, "compile_model", _compile_model)
    monkeypatch.setattr(model_cost, "measure_cost", _measure_cost)


def run_line(line: str) -> int:
    """Run a command line as a shell would, with its variables; return the exit code."""
    words = shlex.split(line)
    variables = [word for word in words if "=" in word and word.partition("=")[0].isupper()]
    python, script, *arguments = words[len(variables) :]
    assert python == "python"
    with (
        mock.patch.dict(os.environ, dict(word.split("=", 1) for word in variables)),
        mock.patch.object(sys, "argv", [str(PROJECT / script), *arguments]),
        mock.patch.object(sys, "path", list(sys.path)),
    ):
        try:
            runpy.run_path(str(PROJECT / script), run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            GlobalHydra.instance().clear()
    raise AssertionError(f"{script} ended without an exit code")


_models: dict[str, torch.nn.Module] = {}
_compiled: dict[tuple[int, str], Any] = {}


def _build_model(spec: RunSpec, device: torch.device) -> torch.nn.Module:
    test = spec.test
    key = repr((spec.vit, test.precision, test.attention, test.image_size, test.seed))
    if key not in _models:
        _models[key] = models.build_model(spec, device)
    return _models[key]


def _compile_model(spec: RunSpec, model: torch.nn.Module) -> tuple[Any, tuple[str, ...]]:
    """Capture the model's graph, on one sample; code for a GPU that is not there is not made."""
    key = (id(model), f"{spec.test.compile_model} {spec.test.compile_mode}")
    if key not in _compiled:
        capture = torch.compile

        def compile_eagerly(model: Any, **options: Any) -> Any:
            del options["mode"]  # of inductor, and refused beside another backend
            return capture(model, backend="eager", **options)

        with mock.patch.object(torch, "compile", compile_eagerly):
            compiled = models.compile_model(spec, model)
        if models.is_compiled(spec):
            sample = torch.zeros(
                (1, *input_shape(spec)[1:]), dtype=models.DTYPES[spec.test.precision]
            )
            compiled[0](sample)
        _compiled[key] = compiled
    return _compiled[key]


def forget_models() -> None:
    """Free the models that were made once for all runs of a module."""
    _models.clear()
    _compiled.clear()


_measure_cost = functools.cache(model_cost.measure_cost)
