"""What the tool itself costs: start-up, one run, the pipeline's loop, the waiting orchestrator.

    python benchmarks/overhead.py [--out benchmarks/results/overhead-NAME.json]

Everything compared is measured alternately in one session, and given as medians with all values.
Needs an idle machine: on two cores one busy neighbour changes every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

RUNNER = str(PROJECT / "hydra_experiment_runner.py")
TRIVIAL = [
    "experiment=quick_test",
    "experiment.vit_configs=[{patch_size:32,depth:0}]",
    "experiment.test.num_samples=8",
    "experiment.test.warmup_samples=8",
    "experiment.test.image_size=64",
    "experiment.test.memory_size_mb=1",
]


def wall(argv: list[str]) -> float:
    """Seconds of a command that must succeed."""
    begin = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def startup(repeats: int) -> dict[str, Any]:
    """Commands that should answer in about a second."""
    with tempfile.TemporaryDirectory() as root:
        commands = {
            "cfg_job_s": [sys.executable, RUNNER, "--cfg", "job"],
            "dry_run_s": [sys.executable, RUNNER, "dry_run=true", f"output.root={root}"],
            "help_s": [sys.executable, RUNNER, "--help"],
        }
        return {
            name: summary([wall(argv) for _ in range(repeats)]) for name, argv in commands.items()
        }


def one_run(repeats: int) -> dict[str, Any]:
    """A trivial run as the study saw it, against a bare interpreter that imports torch."""
    runs, imports = [], []
    with tempfile.TemporaryDirectory() as root:
        for index in range(repeats + 1):
            bare = wall([sys.executable, "-c", "import torch"])
            directory = Path(root) / str(index)
            wall([sys.executable, RUNNER, *TRIVIAL, f"hydra.run.dir={directory}"])
            (record,) = json.loads((directory / "results.json").read_text())
            if index:  # the first round warms the page cache
                imports.append(bare)
                runs.append(record["duration_s"])
    extra = [run - bare for run, bare in zip(runs, imports, strict=True)]
    return {"run_s": summary(runs), "import_torch_s": summary(imports), "extra_s": summary(extra)}


def loop(repeats: int, seconds: float) -> dict[str, Any]:
    """Throughput of the CPU pipeline over that of bare loops on the same model and batches.

    `bare` calls the model on pool batches; `copies` copies in and out around it, as the pipeline
    does. A ratio below 1 means that the pipeline is slower.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with torch.inference_mode():
        return {
            f"vit32x{depth}x{dim}": loop_of(depth, dim, repeats, seconds)
            for depth, dim in ((2, 128), (4, 256), (6, 512))
        }


def loop_of(depth: int, dim: int, repeats: int, seconds: float) -> dict[str, Any]:
    """The same for one model: each round goes bare, copies, pipeline, copies, bare."""
    import torch

    from numa_bench.config.schemas.workload import ViTConfig
    from numa_bench.plan.resolve import resolve_vit
    from numa_bench.records.workload import input_shape, output_shape
    from numa_bench.worker.buffers import BatchRing, SamplePool
    from numa_bench.worker.models import build_model
    from numa_bench.worker.pipelines.pipeline import CpuPipeline, Limits
    from tests.specs import make_spec

    vit = resolve_vit(ViTConfig(depth=depth, dim=dim))
    spec = make_spec(vit=vit, batch_size=8, image_size=224)
    model = build_model(spec, torch.device("cpu"))
    pool = SamplePool(input_shape(spec), torch.float32, nbytes=256_000_000, seed=0)
    outputs = BatchRing(output_shape(spec), torch.float32, nbytes=256_000_000, least=2)
    pipeline = CpuPipeline(model, pool, outputs, depth=2)
    source, target = torch.empty(input_shape(spec)), torch.empty(output_shape(spec))

    def bare() -> None:
        model(pool.next_batch())

    def copies() -> None:
        source.copy_(pool.next_batch())
        target.copy_(model(source))

    def timed(step: Callable[[], None]) -> float:
        begin = time.perf_counter()
        for _ in range(batches):
            step()
        return time.perf_counter() - begin

    pipeline.run(Limits(10, budget_s=5.0))
    batches = max(10, int(seconds * 10 / pipeline.run(Limits(10, budget_s=10.0)).wall_s))
    ratios: dict[str, list[float]] = {"bare": [], "copies": []}
    for _ in range(repeats):
        before = {"bare": timed(bare), "copies": timed(copies)}
        ours = pipeline.run(Limits(batches)).wall_s
        after = {"copies": timed(copies), "bare": timed(bare)}
        for name, values in ratios.items():
            values.append((before[name] + after[name]) / 2 / ours)
    return {name: summary(values) for name, values in ratios.items()}


def orchestrator(seconds: float, *, bar: bool) -> dict[str, Any]:
    """CPU time of the runner's process while a run is measured, as a fraction of one core."""
    with tempfile.TemporaryDirectory() as root:
        argv = [
            sys.executable,
            RUNNER,
            *TRIVIAL,
            "experiment.test.num_samples=1000000000",
            f"experiment.test.time_budget_s={seconds + 8}",
            f"output.root={root}",
            f"output.progress={'bar' if bar else 'plain'}",
        ]
        master, slave = pty.openpty()
        process = subprocess.Popen(argv, stdout=slave, stderr=slave)
        os.close(slave)
        drain = threading.Thread(target=_drain, args=(master,), daemon=True)
        drain.start()
        runner = psutil.Process(process.pid)
        while not runner.children(recursive=True):
            time.sleep(0.1)
        time.sleep(5)  # until the worker measures
        before, begin = runner.cpu_times(), time.perf_counter()
        time.sleep(seconds)
        after, passed = runner.cpu_times(), time.perf_counter() - begin
        process.wait()
        used = (after.user + after.system) - (before.user + before.system)
        return {"cpu_s": used, "seconds": passed, "fraction_of_a_core": used / passed}


def _drain(master: int) -> None:
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        return


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "values": [round(v, 4) for v in values]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one timed loop")
    args = parser.parse_args()
    from numa_bench.machine.environment import describe_environment

    found: dict[str, Any] = {
        "environment": describe_environment(PROJECT),
        "cores": psutil.cpu_count(),
        "load_before": os.getloadavg(),
        "startup": startup(args.repeats),
        "one_run": one_run(args.repeats),
        "loop": loop(args.repeats, args.seconds),
        "orchestrator_plain": orchestrator(20, bar=False),
        "orchestrator_bar": orchestrator(20, bar=True),
    }
    text = json.dumps(found, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    for part in ("startup", "one_run"):
        for name, value in found[part].items():
            print(f"{part}.{name}: {value['median']:.3f}")
    for model, ratios in found["loop"].items():
        figures = ", ".join(f"{name} {value['median']:.4f}" for name, value in ratios.items())
        print(f"loop {model}: pipeline throughput over {figures}")
    for part in ("orchestrator_plain", "orchestrator_bar"):
        print(f"{part}: {found[part]['fraction_of_a_core']:.2%} of a core")


if __name__ == "__main__":
    main()
