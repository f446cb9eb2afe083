"""What the monitor costs: CPU time of its thread, and the speed of what it watches, in pairs.

    python benchmarks/monitor_cost.py [--seconds 10] [--pairs 10] [--gpu] [--out FILE]

For each interval a child process counts how often it can copy 8 MB, alternately without and with
a monitor beside it. `slowdown` is the median over the pairs of copies without over copies with,
less 1, by wall time and by the child's CPU time; their range shows what the machine's noise hides.
--gpu reads the first GPU's sensors too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.config.schema import ExperimentConfig  # noqa: E402
from numa_bench.machine.environment import describe_environment  # noqa: E402
from numa_bench.machine.topology import discover_topology  # noqa: E402
from numa_bench.records import DeviceSpec, RunSpec  # noqa: E402
from numa_bench.runner.monitor import Monitor  # noqa: E402
from tests.specs import make_spec  # noqa: E402

INTERVALS_S = (1.0, ExperimentConfig().monitor_interval_s, 0.1)
CHILD = """
import sys, time
source, target = bytearray(8_000_000), bytearray(8_000_000)
end, begin_cpu, copies = time.monotonic() + float(sys.argv[1]), time.process_time(), 0
while time.monotonic() < end:
    target[:] = source
    copies += 1
print(copies, time.process_time() - begin_cpu)
"""


@dataclass(frozen=True)
class Window:
    """One child: copies made, its CPU seconds, and what the monitor beside it used."""

    copies: int
    cpu_s: float
    monitor_cpu_s: float
    readings: int


@dataclass(frozen=True)
class Cost:
    """The cost at one interval: medians over pairs, and (least, greatest) of them."""

    interval_s: float
    pairs: int
    seconds: float
    readings: int
    fraction_of_a_core: float
    slowdown: float
    slowdown_range: tuple[float, float]
    slowdown_by_cpu_time: float
    slowdown_by_cpu_time_range: tuple[float, float]


def watch_child(spec: RunSpec, interval_s: float, seconds: float) -> Window:
    """Run one child with a monitor beside it; interval 0: without."""
    with Monitor(spec, Path("unused"), interval_s) as monitor:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(seconds)], stdout=subprocess.PIPE, text=True
        )
        monitor.start_sampling(child.pid)
        printed, _ = child.communicate()
    copies, cpu_s = printed.split()
    used = monitor.to_dict()["monitor_cpu_s"]
    return Window(int(copies), float(cpu_s), used, len(monitor.times))


def measure_cost(spec: RunSpec, interval_s: float, seconds: float, pairs: int) -> Cost:
    """Pairs of windows without and with the monitor, the order reversed in every second pair."""
    by_wall, by_cpu, used, readings, watched_s = [], [], 0.0, 0, 0.0
    for pair in range(pairs):
        order = (0.0, interval_s) if pair % 2 == 0 else (interval_s, 0.0)
        begin = time.monotonic()
        windows = {interval: watch_child(spec, interval, seconds) for interval in order}
        watched_s += (time.monotonic() - begin) / 2
        without, beside = windows[0.0], windows[interval_s]
        by_wall.append(without.copies / beside.copies - 1)
        by_cpu.append((without.copies / without.cpu_s) / (beside.copies / beside.cpu_s) - 1)
        used += beside.monitor_cpu_s
        readings += beside.readings
    return Cost(
        interval_s,
        pairs,
        seconds,
        readings,
        used / watched_s,
        statistics.median(by_wall),
        (min(by_wall), max(by_wall)),
        statistics.median(by_cpu),
        (min(by_cpu), max(by_cpu)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one window")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--gpu", action="store_true", help="read the first GPU's sensors too")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    topology = discover_topology()
    spec = make_spec()
    if args.gpu:
        gpu = topology.gpus[0]
        spec = replace(spec, device=DeviceSpec("cuda", gpu.index, gpu.name, gpu.uuid))
    costs = [measure_cost(spec, each, args.seconds, args.pairs) for each in INTERVALS_S]
    if args.out:
        found = {
            "environment": describe_environment(PROJECT, topology),
            "gpu_sensors": args.gpu,
            "costs": [asdict(cost) for cost in costs],
        }
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    for cost in costs:
        low, high = cost.slowdown_by_cpu_time_range
        print(
            f"every {cost.interval_s} s: {cost.fraction_of_a_core:.3%} of a core; the watched "
            f"child {cost.slowdown:+.2%} by wall time, {cost.slowdown_by_cpu_time:+.2%} by "
            f"CPU time ({low:+.2%} to {high:+.2%} in {cost.pairs} pairs)"
        )


if __name__ == "__main__":
    main()
