"""Stand-ins for the workers of a set, each with a behaviour, started as real ones are.

python tests/runner/fake_set.py BEHAVIOUR --spec S --result R ... --rendezvous FD
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from numa_bench.jsonio import read_json, write_json
from numa_bench.records import RunResult, RunSpec
from numa_bench.worker.lifeline import die_with_starter
from numa_bench.worker.sets.rendezvous import MonotonicClock, Rendezvous

#: Written beside the result by a worker that hangs.
READY = "ready"
#: Batches of a window, each of so many milliseconds; nobody waits for them to pass.
BATCHES, BATCH_MS = 20, 10.0


def main() -> int:
    """One fake worker; exit code as a worker's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--rendezvous", type=int, required=True)
    args, _ = parser.parse_known_args()
    die_with_starter(under_profiler=False)
    spec = RunSpec.from_dict(read_json(args.spec))
    rendezvous, clock = Rendezvous(args.rendezvous), MonotonicClock()
    if args.behaviour == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if args.behaviour == "hangs":
        (args.result.parent / READY).touch()
        while True:
            signal.pause()
    if args.behaviour == "leaves":  # as a worker that cannot do it: it ends well, too early
        write_json(args.result, _result(spec, "waived", error="no such thing").to_dict())
        return 0
    begin = rendezvous.start_together(clock)
    if args.behaviour == "loads":
        while not rendezvous.is_over():
            time.sleep(0.005)
        end = clock.host_time()
        write_json(args.result, _streamed(spec, begin, end).to_dict())
        return 0
    begin = rendezvous.start_together(clock)
    if args.behaviour == "late":  # as if there were no barrier
        begin += 0.5 * BATCHES * BATCH_MS / 1e3
    if args.behaviour == "hangs_later":  # with a result, as real workers leave one on the way
        write_json(args.result, _measured(spec, begin).to_dict())
        (args.result.parent / READY).touch()
        while True:
            signal.pause()
    # Loads are still running when the window that is claimed here has passed.
    clock.wait_until(begin + BATCHES * BATCH_MS / 1e3)
    rendezvous.report_done()
    write_json(args.result, _measured(spec, begin).to_dict())
    return 0


def _result(spec: RunSpec, status: str, error: str | None = None, **more: Any) -> RunResult:
    return RunResult(spec.run_id, spec.cell_hash(), status, error, **more)


def _measured(spec: RunSpec, begin: float) -> RunResult:
    start = [i * BATCH_MS for i in range(BATCHES)]
    samples = {
        "start_ms": start,
        **dict.fromkeys(("h2d_ms", "d2h_ms"), [1.0] * BATCHES),
        "compute_ms": [BATCH_MS - 2] * BATCHES,
        "latency_ms": [BATCH_MS] * BATCHES,
    }
    window = [begin, begin + BATCHES * BATCH_MS / 1e3]
    return _result(
        spec,
        "passed",
        metrics={
            "measured_samples": float(BATCHES * spec.test.batch_size),
            "placement_fraction": 1.0,
        },
        samples=samples,
        observed={"window_monotonic_s": window, "window_host_s": window, "timed_stride": 1},
    )


def _streamed(spec: RunSpec, begin: float, end: float) -> RunResult:
    window = [begin, end]
    return _result(
        spec,
        "passed",
        samples={"start_ms": [0.0], "pass_ms": [(end - begin) * 1e3]},
        observed={
            "window_monotonic_s": window,
            "window_host_s": window,
            "pass_bytes": int((end - begin) * 2e9),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
