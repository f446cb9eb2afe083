"""Pure: a spec and its paths to the whole command line and environment of one run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from numa_bench.profiling.profilers import Profiler, nsys_argv, nsys_environment
from numa_bench.records import RUN_TOKEN, RunSpec
from numa_bench.runner.numactl import numactl_argv
from numa_bench.runner.process import Command
from numa_bench.store import RunPaths
from numa_bench.versions import import_variables

#: What hydra_app sets for the runner itself.
_RUNNERS_OWN = ("HYDRA_FULL_ERROR", "NUMA_BENCH_OWN_ERRORS")


def worker_command(
    spec: RunSpec,
    paths: RunPaths,
    environ: Mapping[str, str],
    token: str,
    profiler: Profiler,
    tmp: Path,
) -> Command:
    """The profiler outermost, so that numactl binds the worker alone; the worker innermost.

    `tmp` is the private temporary directory of a session of nsys.
    """
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
    argv = [*numactl_argv(spec.placement), *worker]
    env = worker_environment(spec, environ, token)
    if spec.profile.kind == "torch":
        argv += ["--trace", str(paths.trace)]
    if spec.profile.kind != "nsys":
        return Command(tuple(argv), env, token)
    argv += ["--started", str(paths.started)]
    return Command(
        argv=(*nsys_argv(profiler, spec, paths.report), *argv),
        env=nsys_environment(env, profiler.config.env, tmp),
        token=token,
        nsys=True,
    )


def worker_environment(spec: RunSpec, environ: Mapping[str, str], token: str) -> dict[str, str]:
    """The caller's environment, plus what makes this run see its one GPU and a cold compiler."""
    env = {name: value for name, value in environ.items() if name not in _RUNNERS_OWN}
    env.update({RUN_TOKEN: token, **import_variables(env)})
    if spec.device.kind == "cuda":
        # The UUID is the one name that does not depend on CUDA_DEVICE_ORDER.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = spec.device.gpu_uuid or str(spec.device.gpu_id)
    else:
        env["CUDA_VISIBLE_DEVICES"] = ""
    if spec.test.compile_model:
        # compile_s of every repeat is a cold compile, not a read of the last repeat's cache.
        env["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    return env
