"""How long MLflow takes for many runs, and what a tracker costs a study.

    python benchmarks/tracking_speed.py [--runs 500] [--out benchmarks/results/tracking-NAME.json]

Logs a made study to SQLite, each run with more than ten metrics and its batches as steps, as
`python -m numa_bench.tracking sync` does; then once more, when nothing is missing. Target: 500 runs
in less than 60 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.jsonio import read_json, write_json  # noqa: E402
from numa_bench.machine.environment import describe_environment  # noqa: E402
from numa_bench.machine.topology import discover_topology  # noqa: E402
from numa_bench.tracking.command import make_syncer  # noqa: E402
from tests.fake_scenarios import write_kind  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        (study,) = write_kind(Path(root) / "outputs", "server8")
        records = read_json(study / "results.json")[: args.runs]
        write_json(study / "results.json", records)
        syncer = make_syncer(study, "mlflow", f"sqlite:///{root}/mlflow.db")
        (tracker,) = syncer.trackers
        begin = time.perf_counter()
        syncer.connect_tracker(tracker)
        connected = time.perf_counter()
        logged = syncer.sync_tracker(tracker, finished=True)
        synced = time.perf_counter()
        syncer.sync_tracker(tracker, finished=True)
        again = time.perf_counter()
        view = syncer._study()
        report = {
            "environment": describe_environment(PROJECT, discover_topology()),
            "runs": logged,
            "metrics_per_run": sum(len(run.metrics) for run in view.runs) / len(view.runs),
            "import_and_database_s": connected - begin,
            "logging_s": synced - connected,
            "nothing_missing_s": again - synced,
        }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    shown = {key: value for key, value in report.items() if key != "environment"}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
