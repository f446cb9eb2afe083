"""A bound process whose checks end as their names say: python -m tests.selftest.fake_process ...

`hang` never ends, `die` kills the process, `exit` ends it with a message, `unready` is never
reached because the process does not start; all others pass.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any

from numa_bench.worker.lifeline import die_with_starter


def main() -> None:
    """Pretend to do the checks that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--session")
    parser.add_argument("--events", type=int)
    parser.add_argument("checks", nargs="+")
    options = parser.parse_args()
    die_with_starter(under_profiler=False)
    if "unready" in options.checks:
        sys.exit("no CUDA driver")
    if "mute" in options.checks:
        signal.pause()
    with os.fdopen(options.events, "w") as events:

        def send(**event: Any) -> None:
            print(json.dumps(event), file=events, flush=True)

        send(ready=True)
        for name in options.checks:
            send(begin=name)
            end(name)
            send(
                end=name,
                verdict="passed",
                value=os.getpid(),
                note="",
                details={},
                seconds=0.0,
                traceback=None,
                measured=True,
            )


def end(name: str) -> None:
    """Do to this process what the name says."""
    if name == "hang":
        signal.pause()
    if name == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "exit":
        sys.exit("out of memory")


if __name__ == "__main__":
    main()
