"""How long the inspector takes for a report of a million kernels, beside `nsys stats`.

    python benchmarks/inspect_speed.py [--out benchmarks/results/inspect_speed-NAME.json]

Both are whole processes on the same SQLite file, one after the other in alternation: `nsys stats`
makes its three sums (kernels, copies by time, copies by size), the inspector everything that it
shows. The file has a launch call for every kernel, which only the inspector reads. Needs nsys, an
idle machine and 150 MB of disk. The target: at most 1.5 times as long, in less than 1 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.machine.environment import describe_environment  # noqa: E402
from numa_bench.machine.topology import discover_topology  # noqa: E402
from numa_bench.profiling import nsys  # noqa: E402
from tests.nsys_files import many_kernels, write_report  # noqa: E402

REPORTS = ("gpukernsum", "gpumemtimesum", "gpumemsizesum")


def measured(argv: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and MB of the largest resident set of a command."""
    begin = time.perf_counter()
    with Path(os.devnull).open("w") as null:
        process = subprocess.Popen(argv, stdout=null)
        _, status, used = os.wait4(process.pid, 0)
    passed = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} ended with {process.returncode}")
    return passed, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def summary(values: list[tuple[float, float, float]]) -> dict[str, object]:
    wall, cpu, memory = zip(*values, strict=True)
    return {
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(cpu),
        "peak_memory_mb": max(memory),
        "all_wall_s": list(wall),
        "all_cpu_s": list(cpu),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    executable = nsys.find_nsys()
    if executable is None:
        raise SystemExit(f"nsys is needed; {nsys.INSTALL}")
    inspector = [sys.executable, str(PROJECT / "analysis" / "inspect_report.py")]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as root:
        file = write_report(Path(root) / "many.sqlite", many_kernels(args.kernels))
        size_mb = file.stat().st_size / 1e6
        stats = [executable, "stats", "--format", "csv"]
        stats += [word for report in REPORTS for word in ("--report", report)]
        commands = {"nsys_stats": [*stats, str(file)], "inspector": [*inspector, str(file)]}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
        for _ in range(args.pairs + 1):
            for name, argv in commands.items():
                found[name].append(measured(argv))
    kept = {name: values[1:] for name, values in found.items()}  # the first pair warms caches
    ratios = [
        mine[0] / theirs[0]
        for mine, theirs in zip(kept["inspector"], kept["nsys_stats"], strict=True)
    ]
    report = {
        # Above 1 before the first pair: neighbours took part of the machine.
        "load_average_before": load,
        "environment": describe_environment(PROJECT, discover_topology()),
        "kernels": args.kernels,
        "file_mb": size_mb,
        "nsys": nsys.read_version(executable),
        "wall_ratio_to_nsys_stats": statistics.median(ratios),
        "wall_ratios": ratios,
        **{name: summary(values) for name, values in kept.items()},
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"{args.kernels:,} kernels: nsys stats {report['nsys_stats']['wall_s']:.2f} s, "
        f"inspector {report['inspector']['wall_s']:.2f} s, "
        f"{report['wall_ratio_to_nsys_stats']:.2f} times as long, "
        f"{report['inspector']['peak_memory_mb']:.0f} MB"
    )


if __name__ == "__main__":
    main()
