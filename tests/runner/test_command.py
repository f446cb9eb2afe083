"""A spec and its paths as the whole command line and environment of one run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.profiling.launch import Profiler
from numa_bench.records import RUN_TOKEN, DeviceSpec, Placement, RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.process import Command
from numa_bench.store import StudyStore
from numa_bench.versions import PROJECT
from tests.specs import make_spec

PATHS = StudyStore(Path("/study")).run_paths("a")
BOUND = Placement(0, (2,), "bind", "remote")
NONE = Profiler("none", ProfilerConfig())


def command(spec: RunSpec, environ: Mapping[str, str] | None = None) -> Command:
    return worker_command(spec, PATHS, environ or {}, "token-1", NONE, Path("/private"))


def test_numactl_stands_outside_the_worker() -> None:
    assert command(make_spec(placement=BOUND)).argv == (
        "numactl",
        "--cpunodebind=0",
        "--membind=2",
        sys.executable,
        "-m",
        "numa_bench.worker",
        "--spec",
        "/study/runs/a/spec.json",
        "--result",
        "/study/runs/a/result.json",
        "--spare-result",
        str(PATHS.spare_result),
        "--wait-for",
        "/study/.busy.lock",
    )


def test_an_unbound_worker_starts_by_itself() -> None:
    assert command(make_spec()).argv[0] == sys.executable


def test_the_environment_is_the_callers_with_the_project_in_front() -> None:
    caller = {"HOME": "/root", "OMP_NUM_THREADS": "3", "PYTHONPATH": "/mine"}

    env = command(make_spec(), caller).env

    assert env["HOME"] == "/root"
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["PYTHONPATH"] == f"{PROJECT}{os.pathsep}/mine"
    assert caller == {"HOME": "/root", "OMP_NUM_THREADS": "3", "PYTHONPATH": "/mine"}
    assert command(make_spec()).env["PYTHONPATH"] == str(PROJECT)
    assert (PROJECT / "numa_bench" / "worker" / "__main__.py").is_file()


def test_every_process_of_a_run_can_be_told() -> None:
    found = command(make_spec())

    assert found.env[RUN_TOKEN] == found.token == "token-1"


def test_what_the_runner_set_for_hydra_stays_with_the_runner() -> None:
    caller = {"HYDRA_FULL_ERROR": "1", "NUMA_BENCH_OWN_ERRORS": "1", "HOME": "/root"}

    assert set(command(make_spec(), caller).env) & set(caller) == {"HOME"}


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (DeviceSpec("cuda", 3, "H100", "GPU-abc", 0), "GPU-abc"),
        (DeviceSpec("cuda", 3), "3"),
        (DeviceSpec("cpu"), ""),
    ],
)
def test_the_worker_sees_its_own_gpu_and_no_other(device: DeviceSpec, wanted: str) -> None:
    spec = replace(make_spec(), device=device)

    env = command(spec, {"CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}).env

    assert env["CUDA_VISIBLE_DEVICES"] == wanted
    if device.kind == "cuda":
        assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_every_compilation_is_a_cold_one() -> None:
    name = "TORCHINDUCTOR_FORCE_DISABLE_CACHES"

    assert command(make_spec(compile_model=True)).env[name] == "1"
    assert name not in command(make_spec()).env
