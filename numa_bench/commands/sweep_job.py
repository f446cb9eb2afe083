"""The process of one job of a sweep; started by `numa_bench.sweep.job_process`.

python -m numa_bench.commands.sweep_job EVENTS PARENT ISOLATION < TASK
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import pickle
import sys

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import NumaBenchError
from numa_bench.isolation.host_locks import hold_start_up
from numa_bench.worker.lifeline import end_with_parent


def main(arguments: list[str]) -> int:
    """Run the job on stdin and report to the descriptor EVENTS; return its exit code."""
    descriptor, parent, isolation = int(arguments[0]), int(arguments[1]), json.loads(arguments[2])
    end_with_parent(parent)
    faulthandler.enable()
    try:
        with contextlib.ExitStack() as start_up:
            # Loading Hydra takes a CPU for a second: not beside another job's measurement. What is
            # wrong with the locks is reported by the study.
            with contextlib.suppress(NumaBenchError):
                start_up.enter_context(hold_start_up(IsolationConfig(**isolation), lambda _: None))
            from numa_bench.runner.display.events import connect_events

            stream = connect_events(descriptor)
            from numa_bench.commands import run
            from numa_bench.config.hydra import app as hydra_app

            hydra_app.register_hydra()
            task = pickle.load(sys.stdin.buffer)
        code, error = run.run_sweep_job(task)
    except KeyboardInterrupt:
        return 130
    stream.send("exit", code=code, error=error)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
