"""Pure: a spec and its paths to the whole command line and environment of one run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numa_bench.binding import numactl_argv
from numa_bench.records import RUN_TOKEN, RunSpec
from numa_bench.store import RunPaths

PROJECT = Path(__file__).resolve().parent.parent
#: What hydra_app sets for the runner itself.
_RUNNERS_OWN = ("HYDRA_FULL_ERROR", "NUMA_BENCH_OWN_ERRORS")


@dataclass(frozen=True)
class Command:
    """What to start: argument vector, environment, and the token that marks its processes."""

    argv: tuple[str, ...]
    env: dict[str, str]
    token: str


def worker_command(
    spec: RunSpec, paths: RunPaths, environ: Mapping[str, str], token: str
) -> Command:
    """numactl outside, the worker inside. The profiler, when there is one, goes before numactl."""
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
    return Command(
        argv=(*numactl_argv(spec.placement), *worker),
        env=worker_environment(spec, environ, token),
        token=token,
    )


def worker_environment(spec: RunSpec, environ: Mapping[str, str], token: str) -> dict[str, str]:
    """The caller's environment, plus what makes this run see its one GPU and a cold compiler."""
    env = {name: value for name, value in environ.items() if name not in _RUNNERS_OWN}
    path = [str(PROJECT), *filter(None, [env.get("PYTHONPATH")])]
    env.update({RUN_TOKEN: token, "PYTHONPATH": os.pathsep.join(path)})
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
