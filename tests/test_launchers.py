"""The same sweep under every launcher: the same jobs, runs, statuses and configurations.

joblib runs everywhere; Ray where its plugin is installed; SLURM where tests/slurm/run.sh is used.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from tests.conftest import PROJECT
from tests.simulation.machine import make_dual_socket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: One width works, the other fails: every status has to come through.
MODULE = """
from torch import nn

def make_net(width):
    if width == 16:
        raise ValueError("too wide")
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
#: CUDA_VISIBLE_DEVICES grants GPU 0 of the two; brackets on the left are this program's own.
STUDY = (
    "experiment=quick_test",
    "experiment.hardware.gpu_ids=[0,1]",
    "experiment.max_gpus=2",
    "experiment.hardware.numa_nodes=0",
    "experiment.vit_configs=[{_target_: mine.make_net, input_shape: [3,16,16], args: {width: 8}}]",
    "experiment.vit_configs[0].args.width=8,16",
    "experiment.test.batch_size=2",
    "experiment.test.num_samples=40",
    "experiment.test.memory_size_mb=4",
    "experiment.test.min_timed_s=0.1",
    "experiment.test.warmup_budget_s=0.1",
    "experiment.test.warmup_samples=4",
    "profiler=none",
    "tracking=none",
)
LAUNCHERS = {
    "joblib": ("hydra.launcher.n_jobs=2",),
    "ray": (),
    # SLURM unsets CUDA_VISIBLE_DEVICES and grants the node's first free GPU: one job at a time.
    "slurm": (
        "hydra.launcher.gres=gpu:1",
        "hydra.launcher.array_parallelism=1",
        "~hydra.launcher.additional_parameters.exclusive",
        "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.mem_gb=2",
    ),
}
#: What two runs of one cell have in common, whoever started them.
SAME = (
    "run_id",
    "status",
    "gpu_id",
    "numa_node",
    "memory_node",
    "placement",
    "vit_config",
    "test_config",
)
Sweep = Callable[..., list[list[dict[str, Any]]]]


def why_not(launcher: str) -> str | None:
    """Why this launcher cannot be tested here, or None."""
    if launcher == "ray" and importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        return "Ray's plugin is not installed (docs/slurm.md, Testing)"
    if launcher == "slurm" and os.environ.get("NUMA_BENCH_SLURM") != "1":
        return "submits jobs to the SLURM that is up: tests/slurm/run.sh"
    return None


def run_sweep(folder: Path, launcher: str, *settings: str) -> list[list[dict[str, Any]]]:
    """Run the sweep on a simulated machine; for each job what its records have in common."""
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    machine = make_dual_socket(2, {}, 2).install(folder)
    done = subprocess.run(
        [
            sys.executable,
            PROJECT / "hydra_experiment_runner.py",
            "-m",
            f"hydra/launcher={launcher}",
            *STUDY,
            *settings,
        ],
        cwd=folder,
        env={
            **os.environ,
            **machine,
            "CUDA_VISIBLE_DEVICES": "0",
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{folder}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (sweep,) = folder.glob("outputs/multirun/quick_test/*")
    jobs = sorted(path for path in sweep.iterdir() if path.name.isdigit())
    assert [job.name for job in jobs] == ["0", "1"]
    return [
        sorted(
            ({key: record[key] for key in SAME} for record in read_json(job / "results.json")),
            key=lambda record: str(record["run_id"]),
        )
        for job in jobs
    ]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What the default launcher leaves behind."""
    return run_sweep(tmp_path_factory.mktemp("launchers") / "basic", "basic")


def test_the_study_has_a_run_of_each_kind(basic: list[list[dict[str, Any]]]) -> None:
    found = [[(r["gpu_id"], r["status"]) for r in job] for job in basic]

    assert found == [[(0, "passed"), (1, "waived")], [(0, "failed"), (1, "waived")]]
    assert [job[0]["vit_config"]["args"]["width"] for job in basic] == [8, 16]


@pytest.mark.parametrize("launcher", list(LAUNCHERS))
def test_another_launcher_leaves_the_same(
    basic: list[list[dict[str, Any]]], tmp_path: Path, launcher: str
) -> None:
    reason = why_not(launcher)
    if reason is not None:
        pytest.skip(reason)

    assert run_sweep(tmp_path / launcher, launcher, *LAUNCHERS[launcher]) == basic
