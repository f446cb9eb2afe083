"""What comparing a fleet costs: simulated hosts x 50 runs through the real loader and verdict.

    python benchmarks/fleet.py [--hosts 2000] [--table 200] [--out FILE]

Hosts are written one after the other (tests/fake_study.py: five models, local and remote, five
repeats), loaded, summarized and removed, so that the disk need not hold a fleet: what is timed is
loading and statistics. One host in five has an effect of 20 % of the link's speed and another NUMA
mode. `--table` hosts are also analysed as one table, whose memory is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.analysis.read.runs import load_studies  # noqa: E402
from numa_bench.analysis.stats.pooled.partitions import (  # noqa: E402
    Partition,
    compare_partitions,
    summarize_partition,
)
from numa_bench.analysis.study_analysis import analyse_study  # noqa: E402
from tests.fake_pipeline import Machine  # noqa: E402
from tests.fake_scenarios import experiment, models, one_gpu  # noqa: E402
from tests.fake_study import Scenario, write_study  # noqa: E402

TARGET = 0.02
_SIZES = ((32, 0, 512), (32, 2, 128), (32, 4, 256), (32, 6, 512), (16, 8, 768))
#: One host in so many has the effect.
_AFFECTED = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=2_000)
    parser.add_argument("--table", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one-table", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_table:
        print(json.dumps(analyse_one_table(args.table)))
        return
    # First: a child starts with the largest memory that its parent ever had, and reports that.
    one_table = _in_a_process(args.table) if args.table else None
    report = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "host_by_host": compare_fleet(args.hosts),
        "one_table": one_table,
    }
    print(json.dumps(report, indent=1))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def compare_fleet(hosts: int) -> dict[str, object]:
    """Seconds and memory of a comparison that forgets each host's runs."""
    timed = {"load_and_pool_s": 0.0}
    parts = list(_summarize_hosts(hosts, timed))
    peak = peak_mb()
    start = time.perf_counter()
    found = compare_partitions(parts, TARGET)
    compared = time.perf_counter() - start
    claimed = found.table[found.table["claimed"].astype(bool)]
    return {
        "hosts": len(parts),
        "runs": sum(part.runs for part in parts),
        **timed,
        "per_host_ms": 1e3 * timed["load_and_pool_s"] / len(parts),
        "compare_s": compared,
        "peak_mb_after_load": peak,
        "peak_mb": peak_mb(),
        "effects_by_host": len(found.table),
        "hosts_with_an_effect": int(claimed["group"].nunique()),
        "texts": list(found.texts),
    }


def analyse_one_table(hosts: int) -> dict[str, object]:
    """The same hosts in one table, through everything that analyze.py computes."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(hosts):
            write_study(Path(folder), describe_host(number))
        start = time.perf_counter()
        loaded = load_studies(folder)
        middle = time.perf_counter()
        analyse_study(
            "fleet", loaded, target=TARGET, seed=0, created="", command="", profiles=pd.DataFrame()
        )
        end = time.perf_counter()
    runs = len(loaded.frame)
    return {
        "hosts": hosts,
        "runs": runs,
        "load_s": middle - start,
        "analyse_s": end - middle,
        "peak_mb": peak_mb(),
    }


def describe_host(number: int) -> Scenario:
    """A host with 50 runs; every fifth has the effect, and nodes of another mode."""
    affected = number % _AFFECTED == 0
    study = experiment("fleet", models(*_SIZES), 5, numa_nodes=["local", "remote"])
    return Scenario(
        Machine(one_gpu(), 0.2 if affected else 0.0),
        study,
        host=f"gpu-{number:04}",
        seed=number,
        raw=0,
        started=Scenario.started + timedelta(seconds=number),
        changes={"numa_mode": "1 NUMA node per socket" if affected else "NPS4"},
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _summarize_hosts(hosts: int, timed: dict[str, float]) -> Iterator[Partition]:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(hosts):
            directory = Path(folder) / "host"
            write_study(directory, describe_host(number))
            start = time.perf_counter()
            part = summarize_partition(load_studies(directory), TARGET)
            timed["load_and_pool_s"] += time.perf_counter() - start
            shutil.rmtree(directory)
            yield part


def _in_a_process(hosts: int) -> object:
    """Memory of its own needs a process of its own."""
    command = [sys.executable, __file__, "--one-table", "--table", str(hosts)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
