"""Loaded by every Python that has this folder on PYTHONPATH: jobs of sweeps get fake workers.

SWEEP_BEHAVIOURS has one for each batch size, from 1 on: a behaviour of tests/fake_worker.py, or
how the job's own process ends (`kill_job`, `crash_job`, `exit_job`).
"""

import os
import sys

if "numa_bench.commands.sweep_job" in sys.orig_argv:
    import ctypes
    import importlib
    import signal
    from typing import Any

    from tests.fake_worker import fake_argv

    worker_run: Any = importlib.import_module("numa_bench.runner.worker_run")
    _real = worker_run.worker_command
    _ENDS = {
        "kill_job": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "crash_job": lambda: ctypes.string_at(0),
        "exit_job": lambda: os._exit(0),
    }

    def _command(spec, paths, *rest):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        behaviour = os.environ["SWEEP_BEHAVIOURS"].split(",")[spec.test.batch_size - 1]
        if behaviour in _ENDS:
            _ENDS[behaviour]()
        return replace(_real(spec, paths, *rest), argv=fake_argv(behaviour, paths))

    worker_run.worker_command = _command
