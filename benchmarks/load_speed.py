"""What loading and judging a large study costs: 10,000 runs, seconds and memory.

    python benchmarks/load_speed.py [--runs 10000] [--out benchmarks/results/load-NAME.json]

The studies are made up (tests/fake_study.py) in the runner's format: one of all runs, and the same
number in 100 studies. Each is loaded in a fresh process, whose imports are timed separately.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.fake_scenarios import experiment, models, numa_study, server8  # noqa: E402
from tests.fake_study import write_study  # noqa: E402

_CHILD = """
import json, sys, time
from pathlib import Path
def peak_mb():  # of this program alone; ru_maxrss would count what started it
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
start = time.perf_counter()
from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.pooled.table import pool_effects
from numa_bench.analysis.stats.tables import TARGET, THROUGHPUT, cell_table, effect_table
imported = time.perf_counter()
runs = load_runs(sys.argv[1])
loaded = time.perf_counter()
peak = peak_mb()
cells, effects = cell_table(runs), effect_table(runs)
single = time.perf_counter()
pooled = pool_effects(runs, THROUGHPUT, TARGET)
print(json.dumps({
    "runs": len(runs), "comparisons": len(effects), "pooled_contrasts": len(pooled),
    "import_s": imported - start, "load_s": loaded - imported,
    "statistics_s": time.perf_counter() - loaded, "pooled_s": time.perf_counter() - single,
    "cpu_s": time.process_time(),
    "peak_mb_after_load": peak,
    "peak_mb": peak_mb(),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report: dict[str, object] = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        # Eight GPUs and four nodes: 160 runs a model at five repeats.
        sizes = [(32, 1 + i % 12, 64 * (1 + i // 12)) for i in range(args.runs // 160)]
        large = replace(numa_study(server8()), raw=0)
        large = replace(large, experiment=experiment("large", models(*sizes)))
        one, many = Path(folder) / "one", Path(folder) / "many"
        write_study(one, large)
        small = replace(large, experiment=experiment("small", models(*sizes[:1]), repeats=3))
        for i in range(round(args.runs / 96)):
            write_study(many, replace(small, seed=i, started=small.started + timedelta(hours=i)))
        for name, root in (("one study", one), ("many studies", many)):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(root)],
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            report[name] = found
            print(
                f"{name}: {found['runs']} runs loaded in {found['load_s']:.1f} s, "
                f"{found['peak_mb_after_load']:.0f} MB; {found['comparisons']} comparisons in "
                f"{found['statistics_s']:.1f} s, of which {found['pooled_s']:.1f} s for "
                f"{found['pooled_contrasts']} pooled ones, {found['peak_mb']:.0f} MB"
            )
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
