"""A GPU that falls off the bus during a run, by a simulated device and its NVML."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from numa_bench.jsonio import read_json
from numa_bench.machine.backend import VARIABLE
from tests.conftest import PROJECT
from tests.fake_worker import carriers
from tests.faults import lost_gpu
from tests.simulation.machine import dual_socket_4_gpus

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

STUDY = (
    *("experiment=numa_study", "experiment.vit_configs=[{depth: 0}]", "experiment.repeats=2"),
    *("experiment.hardware.gpu_ids=[0]", "experiment.hardware.numa_nodes=[0]"),
    *("experiment.test.num_samples=64", "experiment.test.memory_size_mb=16"),
    *("experiment.test.min_timed_s=0.01", "experiment.test.min_warmup_s=0.01"),
    *("experiment.order=sequential", "tracking=none", "profiler=none", "hydra.run.dir=study"),
)
Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start the runner on that machine."""
    (tmp_path / "machine").mkdir()
    variables = {
        **dual_socket_4_gpus().install(tmp_path / "machine"),
        **{
            VARIABLE: lost_gpu.BACKEND,
            lost_gpu.VARIABLE: str(tmp_path),
            "PYTHONPATH": str(PROJECT),
        },
        "TMPDIR": str(tmp_path / "temp"),
    }
    (tmp_path / "temp").mkdir()

    def started(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROJECT / "hydra_experiment_runner.py"), *words],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return started


def test_a_gpu_that_is_lost_in_a_run(start: Start, tmp_path: Path) -> None:
    """Its run fails, what was measured stays, and nothing starts until it is back."""
    (tmp_path / "arm").write_text("_r1-")
    done = start(*STUDY)

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    kept, failed = read_json(tmp_path / "study" / "results.json")
    assert (kept["status"], failed["status"]) == ("passed", "failed")
    assert failed["error"].startswith("RuntimeError: CUDA error: unspecified launch failure")
    assert failed["throughput_samples_per_s"] is None
    assert carriers(f"{lost_gpu.VARIABLE}={tmp_path}") == []
    assert [path for path in (tmp_path / "temp").rglob("*") if path.is_file()] == []

    done = start("resume_from=study")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: experiment.hardware.gpu_ids=[0]: no GPU 0: this machine has ")
    assert read_json(tmp_path / "study" / "results.json") == [kept, failed]

    (tmp_path / "arm").unlink()
    (tmp_path / "lost").unlink()
    done = start("resume_from=study")
    assert done.returncode == 0, done.stderr
    again = {record["run_id"]: record for record in read_json(tmp_path / "study" / "results.json")}
    assert again[kept["run_id"]] == kept
    assert again[failed["run_id"]]["status"] == "passed"
    assert again[failed["run_id"]]["attempt"] == 2
    assert list((tmp_path / "study").rglob("*.tmp")) == []
