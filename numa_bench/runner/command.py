"""From a spec and its paths to the command line and environment of one run. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from numa_bench.isolation.orphans import RUNNER_MARK
from numa_bench.profiling.launch import Profiler, build_nsys_argv, build_nsys_environment
from numa_bench.records import RUN_TOKEN, DeviceSpec, RunSpec
from numa_bench.runner.numactl import numactl_argv
from numa_bench.runner.process import Command
from numa_bench.study_files import RunPaths
from numa_bench.versions import import_variables

#: The part of a run that one of its processes does; the worker's argument --only.
Only = Literal["measurement", "recording"]
#: Variables that config/hydra/app and isolation/orphans set for the runner itself.
_RUNNERS_OWN = ("HYDRA_FULL_ERROR", "NUMA_BENCH_OWN_ERRORS", RUNNER_MARK)


def worker_command(
    spec: RunSpec,
    paths: RunPaths,
    environ: Mapping[str, str],
    token: str,
    profiler: Profiler,
    tmp: Path,
    only: Only | None = None,
) -> Command:
    """The command of one run: profiler, numactl, worker, from the outside in.

    numactl comes after nsys so that it binds the worker alone. `tmp` is the private temporary
    directory of an nsys session. `only` leaves out the profiled window, and nsys with it, or
    everything else.
    """
    nsys = spec.profile.kind == "nsys" and only != "measurement"
    worker = [
        sys.executable,
        "-m",
        "numa_bench.worker",
        "--spec",
        str(paths.spec),
        "--result",
        str(paths.result),
        "--spare-result",
        str(paths.spare_result),
    ]
    worker += ["--wait-for", str(paths.busy_lock)]
    if only is not None:
        worker += ["--only", only]
    argv = [*numactl_argv(spec.placement), *worker]
    env = worker_environment(spec, environ, token)
    if spec.profile.kind == "torch":
        argv += ["--trace", str(paths.trace)]
    if not nsys:
        # Only nsys gets a small environment: its report contains all of it.
        return Command(tuple(argv), env, token)
    argv += ["--started", str(paths.started)]
    return Command(
        argv=(*build_nsys_argv(profiler, spec, paths.report), *argv),
        env=build_nsys_environment(env, profiler.config.env, tmp),
        token=token,
        nsys=True,
    )


def worker_environment(spec: RunSpec, environ: Mapping[str, str], token: str) -> dict[str, str]:
    """The caller's environment, changed so that the run sees its one GPU and a cold compiler."""
    env = {**gpu_environment(spec.device, environ), RUN_TOKEN: token}
    if spec.test.compile_model:
        # compile_s of every repeat is a cold compile, not a read of the last repeat's cache.
        env["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    return env


def gpu_environment(device: DeviceSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment for a Python process of ours that sees this device alone."""
    env = {name: value for name, value in environ.items() if name not in _RUNNERS_OWN}
    env.update(import_variables(env))
    if device.kind == "cuda":
        # The UUID is the one name that does not depend on CUDA_DEVICE_ORDER.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = device.gpu_uuid or str(device.gpu_id)
    else:
        # Empty, not absent: unset means every GPU.
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
