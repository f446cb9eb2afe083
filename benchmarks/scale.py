"""What 10,000 runs cost besides measuring: planning, saving each result, resuming.

    python benchmarks/scale.py [--runs 10000] [--out benchmarks/results/scale-NAME.json]

`rewrite_s` is what saving a result cost before there was a journal: the whole of results.json. The
resumed study is complete, so that nothing is measured; its time is that of the whole process.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.config.schema import RunnerConfig  # noqa: E402
from numa_bench.plan.plan import build_plan  # noqa: E402
from numa_bench.records import Execution, Record, RunSpec, Status, make_record  # noqa: E402
from numa_bench.store import REWRITE_SHARE, StudyStore  # noqa: E402
from numa_bench.study_files import RESULTS  # noqa: E402
from numa_bench.versions import package_versions  # noqa: E402
from tests.fake_pipeline import Machine, measured  # noqa: E402
from tests.fake_scenarios import experiment, models, server8  # noqa: E402

_RUNNER = [sys.executable, "hydra_experiment_runner.py"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": package_versions(("numpy", "hydra-core", "rich")),
        "planning": time_planning(args.runs),
        "saving": time_saving(args.runs),
        "resuming": time_resuming(args.runs),
    }
    print(json.dumps(report, indent=1))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def time_planning(runs: int) -> dict[str, object]:
    """Seconds to plan a study of eight GPUs and four nodes."""
    repeats = max(1, runs // (32 * 20))
    sizes = [(32, 1 + i % 10, 64 * (1 + i // 10)) for i in range(20)]
    config = RunnerConfig(experiment=experiment("large", models(*sizes), repeats))
    topology = server8()
    times, planned = [], 0
    for _ in range(5):
        start = time.perf_counter()
        planned = len(build_plan(config, topology, topology.gpus).runs)
        times.append(time.perf_counter() - start)
    return {"runs": planned, "least_s": min(times), "median_s": statistics.median(times)}


def time_saving(runs: int) -> list[dict[str, object]]:
    """What saving costs at several sizes: the journal alone, and the rewrite that is rare."""
    topology = server8()
    config = RunnerConfig(experiment=experiment("large", models((32, 6, 512)), 400))
    plan = build_plan(config, topology, topology.gpus)
    records = [_record(spec, Machine(topology, 0.2)) for spec in plan.runs[:runs]]
    steps = sorted({100, 1_000, len(records)})
    found: list[dict[str, object]] = []
    # A clock that does not move: nothing is rewritten but where this asks for it.
    with tempfile.TemporaryDirectory() as folder, StudyStore(Path(folder), lambda: 0.0) as store:
        store._rewritten, store._rewrite_s = 0.0, 1.0
        times = []
        for number, record in enumerate(records, 1):
            times.append(_time(partial(store.add_record, record)))
            if number in steps:
                last = sorted(times[-100:])
                save = {
                    "save_median_ms": 1e3 * last[len(last) // 2],
                    "save_p95_ms": 1e3 * last[int(len(last) * 0.95)],
                }
                found.append({"stored": number, **save, **_time_rewrite(store)})
                store._rewritten, store._rewrite_s = 0.0, 1.0
    return found


def _time_rewrite(store: StudyStore) -> dict[str, float]:
    """What writing results.json costs: with every record to encode, and with none."""
    store._texts.clear()
    first, again = _time(store.save_records), _time(store.save_records)
    return {
        "first_rewrite_s": first,
        "rewrite_s": again,
        "rewritten_every_s": again / REWRITE_SHARE,
        "results_mb": (store.root / RESULTS).stat().st_size / 1e6,
    }


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_resuming(runs: int) -> dict[str, object]:
    """Seconds of `resume_from=` on a complete study of about so many runs."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "study"
        settings = [f"hydra.run.dir={directory}", "tracking=none", "experiment=quick_test"]
        cells = _count_planned([*settings, "experiment.repeats=1"])
        repeats = f"experiment.repeats={max(1, runs // cells)}"
        specs = _plan_here([*settings, repeats], directory)
        machine = Machine(server8(), 0.2)
        with StudyStore(directory) as store:
            for spec in specs:
                store.add_record(_record(spec, machine))
        start = time.perf_counter()
        done = subprocess.run(
            [*_RUNNER, f"resume_from={directory}"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - start
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        recorded = len(json.loads((directory / RESULTS).read_text()))
    return {"runs": len(specs), "recorded": recorded, "wall_s": took}


def _count_planned(overrides: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return len(_plan_here(overrides, Path(folder)))


def _plan_here(overrides: list[str], directory: Path) -> list[RunSpec]:
    """The plan of a command line on this machine, whose settings are saved as a study's are."""
    from hydra import compose, initialize_config_dir

    from numa_bench.config.hydra.app import register_hydra
    from numa_bench.config.loading import discover_machine, load_config, save_resolved
    from numa_bench.config.settings import CONFIG_DIR
    from numa_bench.profiling.launch import find_profiler

    register_hydra()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        node = compose("config", [o for o in overrides if not o.startswith("hydra.")])
    config = load_config(node, overrides)
    topology, visible = discover_machine(config.topology_root)
    profiler = find_profiler(config.profiler, probe=False)
    save_resolved(config, directory)
    return list(build_plan(config, topology, visible, frozenset(), profiler).runs)


def _record(spec: RunSpec, machine: Machine) -> Record:
    execution = Execution(
        Status.PASSED, 0, None, "2026-01-31T14:30:15.000+00:00", 14.2, 1, "logs/a", "logs/b"
    )
    record = make_record(spec, None, execution, "host")
    if spec.device.kind == "cuda":
        metrics = measured(machine, spec, 1.0)
    else:
        metrics = {"throughput_samples_per_s": 100.0}
    return cast("Record", {**record, **metrics})


if __name__ == "__main__":
    main()
