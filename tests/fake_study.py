"""Writes complete study directories of made-up machines, in the runner's own format.

    python -m tests.fake_study OUTDIR [--kind server8|one_gpu|...|all] [--effect 0.2] [--seed 0]

Plans come from the planner and records from `make_record`, so the format cannot drift apart from
the runner's. Nothing here measures anything.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from numa_bench.config.schema import ExperimentConfig, RunnerConfig
from numa_bench.jsonio import write_json
from numa_bench.machine.environment import describe_links, hash_environment
from numa_bench.machine.numa_mode import count_nodes_per_package, describe_numa_mode
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.profiling.launch import Profiler
from numa_bench.records import Execution, JsonDict, RunResult, RunSpec, Status, make_record
from tests.fake_pipeline import Machine, Noise, is_host_bound, measured, sensors, stages_ms

_CPU_MODEL = "AMD EPYC 9654 96-Core Processor"
_ERRORS = {
    Status.FAILED: "worker exited with 1: RuntimeError: CUDA error: an illegal memory access",
    Status.TIMEOUT: "no result within 900 s (timeout_s)",
    Status.INVALID: "placement: 71.3 % of the pages are on node 0, 99 % are needed",
    Status.WAIVED: "the machine cannot do it: no bf16 on this device",
}


@dataclass(frozen=True)
class Scenario:
    """One study. `stop_after`: only so many runs have ended yet. `raw`: runs with raw samples.

    `bad` gives a status to runs by their place in the order; `changes` go into the environment,
    `texts` into string fields of every record.
    """

    machine: Machine
    experiment: ExperimentConfig
    noise: Noise = Noise()
    seed: int = 0
    host: str = "gpu-server-1"
    started: datetime = datetime(2026, 1, 31, 14, 30, 15, tzinfo=timezone.utc)
    bad: dict[int, Status] = field(default_factory=dict)
    warned: dict[int, str] = field(default_factory=dict)
    changes: JsonDict = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    raw: int = 8
    profiler: str = "none"


def write_study(root: Path, scenario: Scenario, directory: Path | None = None) -> Path:
    """Write one study below `root` (or in `directory`); returns its directory."""
    name, start = scenario.experiment.name, scenario.started
    study = directory or root / name / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}"
    config = RunnerConfig(experiment=scenario.experiment)
    topology = scenario.machine.topology
    profiler = Profiler(scenario.profiler, config.profiler)
    plan = build_plan(config, topology, topology.gpus, profiler=profiler)
    environment = describe(scenario)
    done = plan.runs[: scenario.stop_after]
    rng = np.random.default_rng(scenario.seed)
    factors = scenario.noise.factors(rng, len(plan.runs))
    records = [
        _record(study, scenario, run, i, float(factors[i]), len(plan.runs), environment["id"])
        for i, run in enumerate(done)
    ]
    write_json(study / "topology.json", topology.to_dict())
    write_json(study / "results.json", records)
    write_json(study / "experiment_summary.json", _summary(scenario, plan, records, environment))
    (study / "experiment.log").write_text('{"level": "INFO", "message": "study"}\n')
    return study


def describe(scenario: Scenario) -> JsonDict:
    """The environment of a study, with its id."""
    topology = scenario.machine.topology
    found: JsonDict = {
        "host": scenario.host,
        "kernel": "6.8.0-49-generic",
        "machine": "x86_64",
        "cpu_model": _CPU_MODEL,
        "cpus": sum(len(node.cpus) for node in topology.nodes),
        "memory_bytes": sum(node.memory_bytes for node in topology.nodes),
        "settings": {"transparent_hugepages": "madvise", "numa_balancing": "0", "smt": "on"},
        "numa_nodes": [node.id for node in topology.nodes],
        "nodes_per_package": count_nodes_per_package(topology),
        "numa_mode": describe_numa_mode(topology, _CPU_MODEL),
        "gpus": [{"name": g.name, "uuid": g.uuid} for g in topology.gpus],
        "nvidia_driver": "550.54.15" if topology.gpus else None,
        "cuda_driver": "12.4" if topology.gpus else None,
        "python": "3.11.9",
        "packages": {"torch": "2.4.0+cu124", "vit-pytorch": "1.7.0", "numpy": "1.26.4"},
        "git_commit": "0123456789ab",
        "variables": {},
        "command": ["hydra_experiment_runner.py", f"experiment={scenario.experiment.name}"],
        **({"gpu_links": describe_links(topology)} if topology.gpus else {}),
        **scenario.changes,
    }
    return {**found, "id": hash_environment(found)}


def _record(
    study: Path,
    scenario: Scenario,
    run: RunSpec,
    index: int,
    factor: float,
    runs: int,
    environment: str,
) -> JsonDict:
    rng = np.random.default_rng([scenario.seed, index])
    status = scenario.bad.get(index, Status.PASSED)
    if run.test.precision == "bf16" and run.device.kind == "cpu":
        status = Status.WAIVED
    kept = status in (Status.PASSED, Status.INVALID)
    result = _result(scenario.machine, run, factor, rng) if kept else None
    warning = scenario.warned.get(index)
    execution = Execution(
        status=status,
        exit_code={Status.PASSED: 0, Status.TIMEOUT: -15}.get(status, 1),
        error=_ERRORS.get(status),
        start_time=(scenario.started + timedelta(seconds=15 * index)).isoformat(
            timespec="milliseconds"
        ),
        duration_s=14.2,
        attempt=1,
        stdout_log=f"logs/{run.run_id}.stdout",
        stderr_log=f"logs/{run.run_id}.stderr",
        warnings=(warning,) if warning else (),
        environment=environment,
        monitor=sensors(run, rng, index / max(1, runs - 1)) if kept else {},
    )
    if index < scenario.raw:
        write_json(study / "runs" / run.run_id / "spec.json", run.to_dict())
        if result:
            write_json(study / "runs" / run.run_id / "result.json", result.to_dict(), indent=None)
        for stream in ("stdout", "stderr"):
            log = study / "logs" / f"{run.run_id}.{stream}"
            log.parent.mkdir(exist_ok=True)
            log.write_text("" if status is Status.PASSED else f"{execution.error}\n")
    return {**make_record(run, result, execution, scenario.host), **scenario.texts}


def _result(machine: Machine, run: RunSpec, factor: float, rng: np.random.Generator) -> RunResult:
    stages = stages_ms(machine, run)
    samples = {
        name: [round(float(v), 6) for v in time * rng.lognormal(0, 0.01, 40) / factor]
        for name, time in zip(("h2d_ms", "compute_ms", "d2h_ms"), stages, strict=True)
    }
    step = max(stages)
    samples["start_ms"] = [round(i * step, 6) for i in range(40)]
    samples["latency_ms"] = [round(sum(stages) * 1.2, 6)] * 40
    return RunResult(
        run_id=run.run_id,
        spec_hash=run.cell_hash(),
        status="passed",
        metrics=measured(machine, run, factor),
        samples=samples,
        warmup={"settled": True, "batches": 21, "seconds": 0.5, "block_medians_ms": [1.1, 1.0]},
        observed={"method": "move_pages", "pages": {"0": 68208}},
        versions={"python": "3.11.9", "torch": "2.4.0+cu124"},
        warnings=["host_bound: the GPU waited"] if is_host_bound(machine, run) else [],
    )


def _summary(scenario: Scenario, plan: Plan, records: list[JsonDict], machine: JsonDict) -> Any:
    counts = Counter(record["status"] for record in records)
    passed = counts[Status.PASSED.value]
    return {
        "study": plan.study,
        "planned": len(plan.runs),
        "counts": {status.value: counts[status.value] for status in Status},
        "success_rate": passed / len(records) if records else None,
        "started": scenario.started.isoformat(timespec="milliseconds"),
        "updated": (scenario.started + timedelta(seconds=15 * len(records))).isoformat(),
        "runs_duration_s": sum(record["duration_s"] for record in records),
        "interrupted": False,
        "repeats_history": [len({run.repeat for run in plan.runs})],
        "order": plan.order,
        "order_seed": plan.order_seed,
        "run_order": [run.run_id for run in plan.runs],
        "conditions": ["cpu_governor is powersave on 192 CPUs; performance is steadier"],
        "machine": machine,
        "environments": {machine["id"]: machine},
    }


def main() -> None:
    from tests.fake_scenarios import KINDS, write_kind

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="server8")
    parser.add_argument("--effect", type=float, default=0.2, help="share of link speed lost")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for kind in KINDS if args.kind == "all" else (args.kind,):
        for study in write_kind(args.out, kind, effect=args.effect, seed=args.seed):
            print(study)


def again(scenario: Scenario, **changes: Any) -> Scenario:
    """The same study on another day: another seed, later, and what else is given."""
    later = scenario.started + timedelta(days=1)
    return replace(scenario, **{"seed": scenario.seed + 1000, "started": later, **changes})


if __name__ == "__main__":
    main()
