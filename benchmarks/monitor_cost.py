"""CPU time of the monitor's thread, as a fraction of one core, at several rates.

    python benchmarks/monitor_cost.py [--seconds 30] [--out benchmarks/results/monitor-NAME.json]

Beside this process, which sleeps; on a machine with a GPU give --gpu to read its sensors too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.machine.environment import describe_environment  # noqa: E402
from numa_bench.machine.topology import discover_topology  # noqa: E402
from numa_bench.records import DeviceSpec, RunSpec  # noqa: E402
from numa_bench.runner.monitor import Monitor  # noqa: E402
from tests.specs import make_spec  # noqa: E402


def cost(spec: RunSpec, interval_s: float, seconds: float) -> dict[str, float]:
    """Thread CPU seconds over wall seconds while the monitor samples."""
    with Monitor(spec, Path("unused"), interval_s) as monitor:
        begin = time.monotonic()
        monitor.start_sampling(os.getpid())
        time.sleep(seconds)
        passed = time.monotonic() - begin
    used = monitor.to_dict()["monitor_cpu_s"]
    return {
        "interval_s": interval_s,
        "readings": len(monitor.times),
        "cpu_s": used,
        "seconds": passed,
        "fraction_of_a_core": used / passed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--gpu", action="store_true", help="read the first GPU's sensors too")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    topology = discover_topology()
    spec = make_spec()
    if args.gpu:
        gpu = topology.gpus[0]
        spec = replace(spec, device=DeviceSpec("cuda", gpu.index, gpu.name, gpu.uuid))
    costs = [cost(spec, interval, args.seconds) for interval in (1.0, 0.25)]
    if args.out:
        found = {"environment": describe_environment(PROJECT, topology), "costs": costs}
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    for one in costs:
        print(
            f"every {one['interval_s']} s: {one['fraction_of_a_core']:.3%} of a core "
            f"({one['readings']} readings)"
        )


if __name__ == "__main__":
    main()
