"""The process in which checks are done: bound by numactl, and seeing one GPU.

    python -m numa_bench.selftest.bound_process --session FILE --events DESCRIPTOR CHECK...

It writes one JSON object a line to the descriptor: {"ready": true} when the device is open, then
{"begin": NAME} and {"end": NAME, ...} for every check. Its output is never parsed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from numa_bench.jsonio import read_json, replace_non_finite
from numa_bench.machine.backend import current_backend
from numa_bench.machine.topology import discover_topology
from numa_bench.records import JsonDict
from numa_bench.selftest.checks import Check, run_check
from numa_bench.selftest.context import Context, make_context
from numa_bench.selftest.registry import list_checks
from numa_bench.selftest.report import outcome_to_dict
from numa_bench.selftest.session import Session
from numa_bench.worker.lifeline import die_with_starter


def main(argv: Sequence[str] | None = None) -> int:
    """Do the checks that are named; return the exit code, which is 0 whatever their verdicts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--session", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("checks", nargs="+")
    options = parser.parse_args(argv)
    die_with_starter(under_profiler=False)
    session = Session.from_dict(read_json(options.session))
    context = make_context(session, discover_topology(), current_backend())
    checks = {check.name: check for check in list_checks()}
    with os.fdopen(options.events, "w") as events:

        def send(event: JsonDict) -> None:
            print(json.dumps(replace_non_finite(event)), file=events, flush=True)

        do_checks([checks[name] for name in options.checks], context, send)
    return 0


def do_checks(checks: Sequence[Check], context: Context, send: Callable[[JsonDict], None]) -> None:
    """Do checks one after another, and send the events described above."""
    send({"ready": True})
    for check in checks:
        send({"begin": check.name})
        outcome = run_check(check, context)
        send({"end": check.name, **outcome_to_dict(outcome)})
        gc.collect()  # registered buffers are large, and the next check has its own


if __name__ == "__main__":
    sys.exit(main())
