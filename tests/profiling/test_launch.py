"""Profiler selection, its command line, and its exit as distinct from the worker's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import MachineError
from numa_bench.profiling import nsys
from numa_bench.profiling.launch import (
    Profiler,
    build_nsys_argv,
    build_nsys_environment,
    check_cuda_recording,
    find_profiler,
)
from numa_bench.profiling.nsys import NsysError
from numa_bench.records import RUN_TOKEN, Placement, ProfileSpec, RunResult
from numa_bench.runner.command import worker_command
from numa_bench.runner.outcome import worker_outcome
from numa_bench.runner.process import Ended
from numa_bench.store import StudyStore
from tests.specs import make_spec

PATHS = StudyStore(Path("/study")).run_paths("a")
CONFIG = ProfilerConfig(kind="nsys")
NSYS = Profiler("nsys", CONFIG, executable="/opt/nsys", version="2099.1")
SPEC = replace(make_spec(placement=Placement(0, (1,), "bind", "remote")), profile=NSYS.to_spec())
CUDA = replace(make_spec(kind="cuda"), profile=NSYS.to_spec())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an nsys that works."""
    monkeypatch.setattr(nsys, "find_nsys", lambda name: f"/bin/{name}")
    monkeypatch.setattr(nsys, "read_version", lambda _: "2099.1")
    monkeypatch.setattr(nsys, "probe_nsys", lambda *_: None)
    monkeypatch.setattr("numa_bench.profiling.launch.can_hide", lambda _: True)


def broken(*_: object) -> None:
    raise NsysError("it writes no report")


# --- which one


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("kind", ["auto", "nsys"])
def test_nsys_is_used_where_it_is_found(kind: str) -> None:
    profiler = find_profiler(ProfilerConfig(kind=kind), probe=True)

    assert (profiler.kind, profiler.executable, profiler.version) == ("nsys", "/bin/nsys", "2099.1")
    assert profiler.note is None


@pytest.mark.parametrize("kind", ["torch", "none"])
def test_other_kinds_do_not_look_for_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsys, "find_nsys", broken)

    assert find_profiler(ProfilerConfig(kind=kind), probe=True).kind == kind


def test_auto_goes_on_without_it_and_says_so() -> None:
    profiler = find_profiler(ProfilerConfig(executable="/no/nsys"), probe=True)

    assert profiler.kind == "none"
    assert profiler.note is not None
    assert "/no/nsys was not found" in profiler.note
    assert profiler.to_spec() == ProfileSpec()


def test_asked_for_by_name_it_must_be_there() -> None:
    with pytest.raises(MachineError, match=r"install_nsys\.sh") as refused:
        find_profiler(ProfilerConfig(kind="nsys", executable="/no/nsys"), probe=False)
    assert refused.value.exit_code == 2


@pytest.mark.usefixtures("found")
def test_one_that_does_not_work_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsys, "probe_nsys", broken)

    assert find_profiler(ProfilerConfig(), probe=True).kind == "none"
    with pytest.raises(MachineError, match="it writes no report"):
        find_profiler(CONFIG, probe=True)
    assert find_profiler(CONFIG, probe=False).kind == "nsys"


@pytest.mark.usefixtures("found")
def test_secrets_of_other_processes_are_not_recorded_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nsys keeps every environment that it may read; a container may forbid hiding them."""
    monkeypatch.setattr("numa_bench.profiling.launch.can_hide", lambda _: False)
    monkeypatch.setattr("numa_bench.profiling.launch.find_exposed_secrets", lambda: ["HF_TOKEN"])

    unasked, by_name = (
        find_profiler(ProfilerConfig(kind=k), probe=False) for k in ("auto", "nsys")
    )

    assert unasked.kind == "none"
    assert "HF_TOKEN of other processes" in str(unasked.note)
    assert (by_name.kind, by_name.exposed) == ("nsys", ("HF_TOKEN",))


# --- what it can do with CUDA


FAKE_NSYS = r"""#!{python}
import os, sqlite3, subprocess, sys
words = sys.argv[1:]
target = next((w.partition("=")[2] for w in words if w.startswith("--output=")), None)
if words == ["profile", "--help"]:
    print("\t--cuda-graph-trace=<granularity>\n\t--cuda-event-trace=true|false")
elif words[0] == "profile":
    open({log!r}, "a").write(repr(words) + os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\n")
    open(target, "w").write("report")
elif words[0] == "export":
    base = sqlite3.connect(target)
    base.execute("CREATE TABLE StringIds (id)")
    for kernel in range({kernels}):
        base.execute("CREATE TABLE IF NOT EXISTS CUPTI_ACTIVITY_KIND_KERNEL (start)")
        base.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?)", (kernel,))
    base.commit()
"""


def fake_nsys(tmp_path: Path, kernels: int) -> str:
    """An nsys whose export holds so many kernels; it logs how it is started."""
    path = tmp_path / "nsys"
    text = FAKE_NSYS.format(python=sys.executable, log=str(tmp_path / "log"), kernels=kernels)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_an_nsys_that_sees_a_kernel_is_kept(tmp_path: Path) -> None:
    profiler = replace(NSYS, executable=fake_nsys(tmp_path, kernels=2))

    assert check_cuda_recording(profiler, {"CUDA_VISIBLE_DEVICES": "GPU-1"}) is profiler

    started = (tmp_path / "log").read_text()
    for word in ("numa_bench.worker.probe", "--capture-range=cudaProfilerApi", "GPU-1"):
        assert word in started


def test_an_nsys_that_sees_no_kernel_records_nothing_and_says_so(tmp_path: Path) -> None:
    blind = fake_nsys(tmp_path, kernels=0)
    by_name = replace(NSYS, executable=blind)
    automatic = replace(by_name, config=ProfilerConfig(kind="auto"))

    found = check_cuda_recording(automatic, {})

    assert found.kind == "none"
    assert "no kernel of it; it may be older than the CUDA in use" in str(found.note)
    with pytest.raises(MachineError, match=r"profiler=nsys: .* no kernel of it") as refused:
        check_cuda_recording(by_name, {})
    assert refused.value.exit_code == 2


def test_other_profilers_are_not_tried_on_the_gpu() -> None:
    torch = Profiler("torch", ProfilerConfig(kind="torch"))
    assert check_cuda_recording(torch, {}) is torch


def test_events_are_not_traced_where_nsys_can_leave_them_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsys, "read_version", lambda _: "2099.1")
    monkeypatch.setattr("numa_bench.profiling.launch.can_hide", lambda _: True)
    config = ProfilerConfig(kind="nsys", executable=fake_nsys(tmp_path, kernels=1))

    profiler = find_profiler(config, probe=False)

    assert "--cuda-event-trace=false" in build_nsys_argv(profiler, CUDA, Path("r"))
    assert not nsys.knows_option(config.executable, "--cuda-event")
    assert not nsys.knows_option("/no/nsys", "--cuda-event-trace")
    assert "--cuda-event-trace=false" not in build_nsys_argv(NSYS, CUDA, Path("r"))


def test_hiding_stands_before_nsys() -> None:
    hidden = replace(NSYS, hidden=True)

    argv = build_nsys_argv(hidden, SPEC, Path("r"))

    assert argv[1:5] == ["-m", "numa_bench.profiling.hiding", "/opt/nsys", "profile"]


# --- its command line and environment


def test_nsys_stands_before_numactl_so_that_it_is_not_bound_itself() -> None:
    command = worker_command(SPEC, PATHS, {}, "token-1", NSYS, Path("/private"))

    assert command.nsys
    assert command.argv[:2] == ("/opt/nsys", "profile")
    words = command.argv
    assert words.index("numactl") == words.index(f"--output={PATHS.report}") + 1
    assert words[words.index("--started") + 1] == str(PATHS.started)
    assert words[words.index("--wait-for") + 1] == str(PATHS.busy_lock)


def test_traps_of_nsys_are_avoided() -> None:
    argv = build_nsys_argv(NSYS, SPEC, Path("/a%b/r.nsys-rep"))

    assert {
        *("--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--force-overwrite=true"),
        *("--cuda-graph-trace=node", "--capture-range-end=stop", "--output=/a%%b/r.nsys-rep"),
    } <= set(argv)


def test_the_window_begins_with_a_range_or_with_cudas_profiler_api() -> None:
    on_cpu, on_gpu = (build_nsys_argv(NSYS, spec, Path("r")) for spec in (SPEC, CUDA))

    assert "--capture-range=nvtx" in on_cpu
    assert "--nvtx-capture=profiled window" in on_cpu
    assert "--capture-range=cudaProfilerApi" in on_gpu


def test_a_whole_run_has_no_capture_range() -> None:
    whole = Profiler("nsys", replace(CONFIG, capture="run"), executable="nsys")
    argv = build_nsys_argv(whole, replace(SPEC, profile=whole.to_spec()), Path("r"))

    assert not [word for word in argv if word.startswith("--capture-range")]


def test_a_profiled_run_gets_no_secret() -> None:
    caller = {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "AWS_SECRET_ACCESS_KEY": "x",
        "NVIDIA_API_KEY": "x",
        "MLFLOW_TRACKING_URI": "https://user:x@host",
        "MINE": "1",
        RUN_TOKEN: "1-a",
        "TMPDIR": "/shared",
    }

    env = build_nsys_environment(caller, ["MINE"], Path("/private"))

    assert env == {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "MINE": "1",
        RUN_TOKEN: "1-a",
        "TMPDIR": "/private",
    }


def test_a_run_without_a_profiler_keeps_its_environment() -> None:
    none = Profiler("none", ProfilerConfig())

    command = worker_command(make_spec(), PATHS, {"MINE": "1"}, "token-1", none, Path("/private"))

    assert command.env["MINE"] == "1"
    assert "TMPDIR" not in command.env
    assert not command.nsys


def test_torchs_profiler_is_told_where_its_trace_goes() -> None:
    torch = Profiler("torch", ProfilerConfig(kind="torch"))
    spec = replace(make_spec(), profile=torch.to_spec())

    argv = worker_command(spec, PATHS, {}, "token-1", torch, Path("/private")).argv

    assert argv[-2:] == ("--trace", str(PATHS.trace))


# --- whose end it was


def ended(code: int | None, reason: str = "exited") -> Ended:
    return Ended(code, reason, 1.0)


def result(status: str) -> RunResult:
    return RunResult(SPEC.run_id, SPEC.cell_hash(), status)


def test_a_worker_that_a_signal_killed_is_told_as_such() -> None:
    assert worker_outcome(ended(139), None)[0].returncode == -11


def test_an_error_of_nsys_does_not_fail_a_run_that_measured() -> None:
    end, (warning,) = worker_outcome(ended(1), result("passed"))

    assert end.returncode == 0
    assert warning.startswith("profiler: ")


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (ended(1), result("failed")),
        (ended(1), None),
        (ended(2), result("passed")),
        (ended(0), result("passed")),
        (ended(143, "timeout"), None),
        (ended(None), None),
    ],
)
def test_other_ends_are_the_workers_own(end: Ended, left: RunResult | None) -> None:
    assert worker_outcome(end, left) == (end, ())
