"""The worker's side of profilers: ranges around the work, a trace, and a wait for exports."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine import page_placement
from numa_bench.records import RUN_TOKEN, STAGES, Placement, ProfileSpec, RunResult
from numa_bench.worker import __main__ as worker
from numa_bench.worker import measurement
from numa_bench.worker.lifeline import wait_for_lock
from numa_bench.worker.recorder import NO_MARKS, TorchRecorder
from tests.conftest import PROJECT
from tests.fake_worker import carriers, wait_until
from tests.specs import make_spec

pytestmark = pytest.mark.slow

PROFILED = replace(make_spec(), profile=ProfileSpec("torch", "window", 3, 60.0))


class Tape:
    """Marks that remember."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def push(self, name: str) -> None:
        self.seen.append(name)

    def pop(self) -> None:
        self.seen.append("end")

    def open_window(self) -> None:
        self.seen.append("window")

    def close_window(self) -> None:
        self.seen.append("end")


def test_every_stage_of_every_batch_is_marked() -> None:
    import torch

    from numa_bench.worker.buffers import BatchRing, SamplePool
    from numa_bench.worker.pipelines.pipeline import CpuPipeline, Limits

    pool = SamplePool((2, 3), torch.float32, nbytes=1000, seed=0)
    outputs = BatchRing((2, 3), torch.float32, nbytes=1)
    tape = Tape()

    CpuPipeline(lambda x: x, pool, outputs, 2).run(Limits(2), tape)

    stages = [word for stage in STAGES * 2 for word in (stage, "end")]
    assert tape.seen == ["window", *stages, "end"]


def test_torchs_profiler_records_a_window_of_its_own_after_the_timed_one(tmp_path: Path) -> None:
    trace = tmp_path / "traces" / "t.json.gz"
    files = worker.Files(tmp_path / "r.json", trace=trace)

    result = worker.run_spec(PROFILED, files)

    assert result.status == "passed"
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = Counter(e["name"] for e in events if e.get("cat") == "user_annotation")
    assert names["profiled window"] == 1
    # Three batches were asked for; the window lasts a fifth of a second at least.
    assert names["H2D"] == names["compute"] == names["D2H"] > 3
    assert result.metrics["measured_samples"] == 8  # the timed window is as it was
    profiled = result.metrics["profiled_throughput_samples_per_s"]
    timed = result.metrics["throughput_samples_per_s"]
    assert profiled
    assert timed
    assert result.metrics["profiler_overhead"] == pytest.approx(timed / profiled - 1)


def test_torchs_profiler_sees_ranges_of_the_thread_that_does_host_work(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    trace = tmp_path / "t.json"
    with (
        TorchRecorder(trace, None, all_threads=True).record_window() as marks,
        ThreadPoolExecutor(1) as lane,
    ):
        marks.push("H2D")
        lane.submit(marks.push, "host").result()
        marks.pop()  # each thread closes its own
        lane.submit(marks.pop).result()

    events = json.loads(trace.read_text())["traceEvents"]
    ranges = {e["name"]: e for e in events if e.get("cat") == "user_annotation"}
    assert ranges["host"]["tid"] != ranges["H2D"]["tid"]
    end = {name: ranges[name]["ts"] + ranges[name]["dur"] for name in ("H2D", "host")}
    assert end["H2D"] <= end["host"]


def test_a_profiler_that_breaks_costs_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUPTI is taken")

    monkeypatch.setattr("torch.profiler.profile", broken)

    result = worker.run_spec(PROFILED, worker.Files(tmp_path / "r.json", trace=tmp_path / "t"))

    assert result.status == "passed"
    assert result.metrics["throughput_samples_per_s"]
    assert result.warnings == [
        "profiler: the profiled window failed: RuntimeError('CUPTI is taken')"
    ]
    assert "profiler_overhead" not in result.metrics


def test_what_was_measured_is_on_disk_before_the_profiler_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profiler that kills the process takes nothing along."""
    found: list[RunResult] = []

    def look(*_: Any, **__: Any) -> None:
        found.append(RunResult.from_dict(read_json(tmp_path / "r.json")))
        raise RuntimeError

    monkeypatch.setattr("torch.profiler.profile", look)

    worker.run_spec(PROFILED, worker.Files(tmp_path / "r.json", trace=tmp_path / "t"))

    (stored,) = found
    assert stored.metrics["throughput_samples_per_s"]
    assert stored.samples["h2d_ms"]
    assert stored.versions["torch"]


def test_ranges_that_cannot_be_made_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    spec = replace(make_spec(), profile=ProfileSpec("nsys", "window", 2, 60.0))

    result = worker.run_spec(spec, worker.Files(tmp_path / "r.json"))

    assert result.status == "passed"
    assert result.warnings[0].startswith("profiler: no ranges")


def test_without_a_profiler_nothing_is_marked() -> None:
    from numa_bench.worker.recorder import make_recorder

    recorder = make_recorder(ProfileSpec(), None, None)

    assert recorder.marks is NO_MARKS


def test_a_worker_waits_for_the_export_before_it_runs_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the compiler, whose time is a measurement too."""
    order: list[str] = []
    run_first = measurement._run_first

    def waits(_: Path) -> float:
        order.append("waited")
        return 1.5

    def runs(*arguments: Any) -> Any:
        order.append("first batch")
        return run_first(*arguments)

    monkeypatch.setattr(measurement, "wait_for_lock", waits)
    monkeypatch.setattr(measurement, "_run_first", runs)

    result = worker.run_spec(make_spec(), worker.Files(tmp_path / "r", wait_for=tmp_path / "lock"))

    assert order == ["waited", "first batch"]
    assert result.observed["waited_s"] == 1.5


def test_a_held_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    real = fcntl.flock
    refused: list[bool] = []
    with lock.open("wb") as held:
        real(held, fcntl.LOCK_EX)

        def flock(file: Any, how: int) -> None:
            try:
                real(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(True)
                real(held, fcntl.LOCK_UN)  # the export ends
            real(file, how)

        monkeypatch.setattr("numa_bench.worker.lifeline.fcntl.flock", flock)
        assert wait_for_lock(lock) > 0
    assert refused == [True]


def test_a_lock_that_nobody_made_is_free(tmp_path: Path) -> None:
    assert wait_for_lock(tmp_path / "none") == 0.0


@pytest.mark.parametrize("under_profiler", [False, True])
def test_a_worker_dies_with_its_starter(under_profiler: bool, tmp_path: Path) -> None:
    """Also where a profiler is between them, which outlives them for a while."""
    name = f"NUMA_BENCH_TEST_{uuid.uuid4().hex}"
    child = (
        "import os, signal, pathlib; from numa_bench.worker.lifeline import die_with_starter\n"
        f"die_with_starter(under_profiler={under_profiler})\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "while True: signal.pause()"
    )
    starter = (
        "import os, signal, subprocess, sys\n"
        f"env = {{**os.environ, {RUN_TOKEN!r}: f'{{os.getpid()}}-x'}}\n"
        "argv = [sys.executable, '-c', sys.argv[1]]\n"
        "if sys.argv[2] == 'True':\n"
        "    argv = ['sh', '-c', '\"$@\"; :', 'sh', *argv]  # the profiler: a process in between\n"
        "subprocess.Popen(argv, env=env, start_new_session=True)\n"
        "while True: signal.pause()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter, child, str(under_profiler)],
        cwd=PROJECT,
        env={**os.environ, name: "1"},
    )
    wait_until((tmp_path / "ready").exists, "the worker")
    assert len(carriers(f"{name}=1")) == 2 + under_profiler

    process.kill()
    process.wait()

    wait_until(lambda: not carriers(f"{name}=1"), "the end of the worker")


# Parts of a run in processes of their own.


def test_a_recording_only_warms_up_and_runs_the_profiled_window(tmp_path: Path) -> None:
    trace = tmp_path / "t.json.gz"

    result = worker.run_spec(PROFILED, worker.Files(tmp_path / "r.json", trace=trace), "recording")

    assert result.status == "passed"
    assert result.metrics["profiled_throughput_samples_per_s"]
    assert result.warmup_samples
    assert "throughput_samples_per_s" not in result.metrics
    assert result.samples == {}
    assert trace.is_file()


def test_a_measurement_only_leaves_the_profiler_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)  # would be a warning if it were needed
    spec = replace(make_spec(), profile=ProfileSpec("nsys", "window", 2, 60.0))

    result = worker.run_spec(spec, worker.Files(tmp_path / "r.json"), "measurement")

    assert (result.status, result.warnings) == ("passed", [])
    assert result.spec_hash == spec.cell_hash()
    assert result.metrics["throughput_samples_per_s"]
    assert "profiled_throughput_samples_per_s" not in result.metrics


def test_the_parts_of_a_run_are_asked_for_on_the_command_line(tmp_path: Path) -> None:
    write_json(tmp_path / "spec.json", PROFILED.to_dict())
    words = ["--spec", str(tmp_path / "spec.json"), "--result", str(tmp_path / "r.json")]

    assert worker.main([*words, "--only", "recording", "--trace", str(tmp_path / "t.gz")]) == 0

    assert "throughput_samples_per_s" not in read_json(tmp_path / "r.json")["metrics"]


def test_torchs_profiler_is_initialised_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CUDA graphs it may hang if it comes later (pytorch issue 75504)."""
    import torch

    order: list[str] = []

    @contextlib.contextmanager
    def profile(activities: list[Any]) -> Any:
        order.append("profiler on CUDA" if len(activities) == 2 else "profiler")
        yield

    monkeypatch.setattr("torch.profiler.profile", profile)
    runtime = SimpleNamespace(device=torch.device("cuda", 0), synchronize=lambda: None)
    TorchRecorder(tmp_path / "t.json.gz", runtime)
    assert order == ["profiler on CUDA"]

    def compile_nothing(_: Any, model: Any) -> Any:
        order.append("compile")
        return model, ()

    def make(*_: Any, **__: Any) -> Any:
        order.append("recorder")
        raise ImportError("none here")

    monkeypatch.setattr(measurement, "compile_model", compile_nothing)
    monkeypatch.setattr(measurement, "make_recorder", make)
    for only in (None, "recording"):
        order.clear()
        worker.run_spec(PROFILED, worker.Files(tmp_path / "r.json"), only)
        assert order[:2] == ["recorder", "compile"]


def test_memory_whose_place_the_kernel_hides_is_waived_before_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that forbids move_pages and hides /proc/self/numa_maps."""

    def forbidden(*_: Any) -> list[int]:
        raise PermissionError(1, "move_pages")

    read_text = Path.read_text

    def hidden(path: Path, *rest: Any, **others: Any) -> str:
        if path.name == "numa_maps":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *rest, **others)

    monkeypatch.setattr(page_placement, "_move_pages", forbidden)
    monkeypatch.setattr(Path, "read_text", hidden)
    bound = make_spec(placement=Placement(None, (0,), "bind", "unknown"))

    result = worker.run_spec(bound, worker.Files(tmp_path / "r.json"))

    assert result.status == "waived"
    assert result.error is not None
    assert "refuses move_pages" in result.error
    assert "--cap-add SYS_NICE" in result.error
    assert result.samples == {}
    assert worker.run_spec(make_spec(), worker.Files(tmp_path / "r.json")).status == "passed"
