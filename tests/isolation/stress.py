"""Many short runs of several processes on one host, and whether any two were measured at once.

    python -m tests.isolation.stress DIRECTORY        20 real runs of a sweep under joblib

CI runs many fake ones instead (test_stress.py). Both read the windows that records say.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.jsonio import read_json
from numa_bench.records import DeviceSpec, JsonDict, RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.process import Command
from numa_bench.study_files import RESULTS, RunPaths
from numa_bench.versions import PROJECT
from tests.fake_worker import LIMIT_S, TOPOLOGY, make_plan

QUICK_WORKER = Path(__file__).with_name("quick_worker.py")
#: Five jobs of two models, twice each.
REAL_SWEEP = (
    *("-m", "experiment=quick_test", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"),
    "experiment.vit_configs=[{patch_size: 32, depth: 0}, {patch_size: 32, depth: 2, dim: 128}]",
    *("experiment.repeats=2", "experiment.test.seed=1,2,3,4,5", "tracking=none", "profiler=none"),
)


def quick_command(spec: RunSpec, paths: RunPaths, *rest: Any) -> Command:
    """In place of `worker_command`."""
    argv = [sys.executable, "-I", "-S", QUICK_WORKER, paths.result, spec.run_id, spec.cell_hash()]
    return replace(worker_command(spec, paths, *rest), argv=tuple(map(str, argv)))


def run_quick_study(directory: Path, locks: Path, repeats: int) -> None:
    """A study of quick fake runs; a job of joblib."""
    from numa_bench.runner import study, worker_run

    isolation = IsolationConfig(directory=str(locks))
    plan = replace(make_plan(["m0"], repeats=repeats), isolation=isolation)
    with mock.patch.object(worker_run, "worker_command", quick_command):
        study.run_study(plan, TOPOLOGY, directory)


def run_gpu_study(directory: Path, locks: Path, job: int, jobs: int, repeats: int) -> None:
    """Quick fake runs on as many GPUs as there are jobs, which share the host; a job of joblib.

    Each job begins with a GPU of its own. Its first worker does not end before the first workers of
    all jobs run.
    """
    from numa_bench.runner import study, worker_run

    meeting = locks.with_name("meeting")
    meeting.mkdir(exist_ok=True)
    plan = make_plan(["m0"], repeats=jobs * repeats, timeout_s=LIMIT_S)
    numbers = [(job + index) % jobs for index in range(len(plan.runs))]
    runs = tuple(
        replace(run, device=DeviceSpec("cuda", number, "H100", f"GPU-{number}", number % 2))
        for run, number in zip(plan.runs, numbers, strict=True)
    )
    isolation = IsolationConfig(directory=str(locks), exclusive="gpu")
    plan = replace(plan, cells=runs, runs=runs, isolation=isolation)

    def command(spec: RunSpec, paths: RunPaths, *rest: Any) -> Command:
        quick = quick_command(spec, paths, *rest)
        first = spec.run_id == runs[0].run_id
        more = (str(meeting), str(job), str(jobs)) if first else ()
        return replace(quick, argv=(*quick.argv, *more))

    with mock.patch.object(worker_run, "worker_command", command):
        study.run_study(plan, TOPOLOGY, directory)


def read_all(studies: Iterable[Path]) -> list[JsonDict]:
    """The records of several studies."""
    return [record for study in studies for record in read_json(study / RESULTS)]


def find_overlaps(records: Iterable[JsonDict]) -> list[tuple[str, str]]:
    """Pairs of runs on one host whose windows overlap."""
    windows = sorted(
        (*record["observed"]["window_monotonic_s"], f"{record['study']}: {record['run_id']}")
        for record in records
    )
    # Neighbours are enough: if any two overlap, some neighbours do.
    return [(a[2], b[2]) for a, b in itertools.pairwise(windows) if b[0] < a[1]]


def replace_window(record: JsonDict) -> JsonDict:
    """The record with the life of its worker's process for a window, by the time of day."""
    begin = datetime.fromisoformat(record["start_time"]).timestamp()
    # Both times are rounded to milliseconds.
    life = [begin, begin + record["duration_s"] - 0.002]
    return {**record, "observed": {"window_monotonic_s": life}}


def count_together(records: Iterable[JsonDict]) -> int:
    """The largest number of runs that were measured at the same time."""
    windows = [record["observed"]["window_monotonic_s"] for record in records]
    return max(sum(begin <= at < end for begin, end in windows) for at, _ in windows)


def main(root: Path) -> int:
    """Run the real sweep, and say how many of its windows overlap."""
    runner = PROJECT / "hydra_experiment_runner.py"
    done = subprocess.run(
        [sys.executable, str(runner), *REAL_SWEEP, f"output.root={root}"], cwd=PROJECT, check=False
    )
    records = read_all(path.parent for path in root.rglob(RESULTS))
    measured = [record for record in records if record["success"]]
    # Not the windows alone, but all of each worker: its start-up is heavy too.
    overlaps = [*find_overlaps(measured), *find_overlaps(map(replace_window, measured))]
    waited = sum(record["lock_wait_s"] for record in records)
    print(
        f"{len(records)} runs, {len(measured)} measured, {len(overlaps)} overlaps, "
        f"{waited:.1f} s of waiting, exit code {done.returncode}"
    )
    return 1 if overlaps or len(measured) < 20 else done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
