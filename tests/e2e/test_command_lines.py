"""The README's command lines that name GPUs, word for word, run to the end on simulated machines.

The machines are small, most with one node, and a batch takes 25 ms there: nothing of the lines
themselves is shortened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from tests.e2e.conftest import Line
from tests.simulation.machine import SimulatedMachine, make_dual_socket

# Without coverage, which would double its time; tests of the parts measure it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.no_cover]

LINK = {
    "h2d_gb_per_s": 0.2,
    "d2h_gb_per_s": 0.2,
    "duplex_gb_per_s": 0.4,
    "tflop_per_s": 40.0,
}
UUID_2 = "GPU-2a000000-0000-4000-8000-000000000002"
#: Placements of a GPU on two nodes: CPUs and memory each near and far.
CROSSED = 4
#: Models of conf/experiment/numa_study.yaml and scaling_study.yaml; repeats, fewer than the default
#: because more of them only take longer here.
NUMA_MODELS, SCALING_MODELS, REPEATS = 6, 8, 2
Run = Callable[..., list[list[dict[str, Any]]]]


@pytest.fixture
def run(simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path) -> Run:
    """Run a line on a machine with so many GPUs and nodes; the records of each of its jobs."""

    def ran(text: str, *, gpus: int, nodes: int) -> list[list[dict[str, Any]]]:
        machine = make_dual_socket(gpus, LINK, nodes)
        simulate(replace(machine, evaluate_flop=1e8))
        code, _, stderr = line(f"{text} experiment.repeats={REPEATS}")
        assert code == 0, stderr[-2000:]
        paths = sorted(tmp_path.rglob("results.json"), key=lambda path: path.parent.name)
        jobs = [read_json(path) for path in sorted(paths, key=job_number)]
        assert {r["status"] for records in jobs for r in records} == {"passed"}
        return jobs

    return ran


def job_number(results: Path) -> int:
    """The place of a sweep's job, from its directory; 0 for a single study."""
    return int(results.parent.name) if "multirun" in results.parts else 0


def gpus_of(records: list[dict[str, Any]]) -> Counter[int]:
    """How many runs each GPU had."""
    return Counter(record["gpu_id"] for record in records)


def test_two_gpus_compiled(run: Run) -> None:
    (records,) = run(
        "python hydra_experiment_runner.py experiment=numa_study "
        "experiment.hardware.gpu_ids=[0,1] experiment.test.compile_model=true",
        gpus=4,
        nodes=1,
    )
    assert gpus_of(records) == dict.fromkeys((0, 1), NUMA_MODELS * REPEATS)
    assert all(record["compile_model"] for record in records)
    compiled = {r["vit_name"]: r["compile_s"] is not None for r in records}
    assert [name for name, timed in compiled.items() if not timed] == ["vit32x0"]


def test_a_sweep_over_studies_and_gpus(run: Run) -> None:
    jobs = run(
        "python hydra_experiment_runner.py -m experiment=numa_study,scaling_study "
        "experiment.hardware.gpu_ids=[0],[1],[2]",
        gpus=4,
        nodes=1,
    )
    runs = [(NUMA_MODELS, gpu) for gpu in range(3)] + [(SCALING_MODELS, gpu) for gpu in range(3)]
    assert [gpus_of(records) for records in jobs] == [
        {gpu: models * REPEATS} for models, gpu in runs
    ]


def test_a_sweep_over_depth_and_width_on_the_gpu_that_is_visible_by_number(run: Run) -> None:
    jobs = run(
        "CUDA_VISIBLE_DEVICES=1 python hydra_experiment_runner.py "
        "-m 'experiment.vit_configs[0].depth=4,6,8,12' 'experiment.vit_configs[0].dim=256,512,768'",
        gpus=2,
        nodes=1,
    )
    assert len(jobs) == 12
    sizes = [(depth, width) for depth in (4, 6, 8, 12) for width in (256, 512, 768)]
    for records, (depth, width) in zip(jobs, sizes, strict=True):
        assert set(gpus_of(records)) == {1}
        configs = [record["vit_config"] for record in records]
        assert any((c["depth"], c["dim"], c["patch_size"]) == (depth, width, 32) for c in configs)


def test_the_default_study_on_the_gpu_that_is_visible_by_uuid(run: Run) -> None:
    (records,) = run(
        f"CUDA_VISIBLE_DEVICES={UUID_2} python hydra_experiment_runner.py", gpus=4, nodes=2
    )
    assert gpus_of(records) == {2: CROSSED * NUMA_MODELS * REPEATS}
    assert {record["gpu_uuid"] for record in records} == {UUID_2}
    assert {record["gpu_numa_node"] for record in records} == {1}
