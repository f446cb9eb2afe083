"""Two models on two GPUs in two placements, three times, in real processes, to the verdict.

One GPU copies slowly from the memory of the other socket. The light model shows it, the heavy one,
whose arithmetic takes longer than its copies, does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.machine.backend import VARIABLE
from tests.conftest import PROJECT
from tests.e2e.verdicts import claims, read_verdict
from tests.simulation.machine import SimulatedMachine, make_dual_socket

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

SLOW_GPU, REMOTE_LINK = 1, 0.7
#: A batch of 393 kB takes 3.9 ms, in which the heavy model has done a third of its arithmetic.
LINK = {
    "h2d_gb_per_s": 0.1,
    "d2h_gb_per_s": 0.1,
    "duplex_gb_per_s": 0.2,
    "tflop_per_s": 0.003,
}
STUDY = [
    "experiment.name=two_gpus",
    "experiment.vit_configs=[{name:light,depth:0},{name:heavy,depth:2,dim:128}]",
    "experiment.hardware.numa_nodes=all",
    "experiment.repeats=3",
    "experiment.test.image_size=64",
    "experiment.test.batch_size=8",
    "experiment.test.precision=fp32",
    "experiment.test.memory_size_mb=1",
    "experiment.test.min_timed_s=0.3",
    "experiment.test.min_warmup_s=0.1",
    "experiment.monitor_interval_s=0.1",
    "tracking=none",
]


def plant() -> SimulatedMachine:
    """Two nodes with a GPU each; a planted effect on one of them."""
    machine = make_dual_socket(2, LINK, node_count=2)
    gpus = list(machine.gpus)
    gpus[SLOW_GPU] = replace(gpus[SLOW_GPU], remote_link=REMOTE_LINK)
    return replace(machine, gpus=tuple(gpus))


@dataclass(frozen=True)
class Study:
    """What runner and analysis left, and what they printed."""

    directory: Path
    records: list[dict[str, Any]]
    verdict: dict[str, Any]
    page: str
    printed: str


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The runner's command line, then the analysis's."""
    root = tmp_path_factory.mktemp("two_gpus")
    (root / "machine").mkdir()
    machine = {
        **plant().install(root / "machine"),
        VARIABLE: "tests.e2e.quick_backend:backend",
    }
    inherited = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    # One thread: the arithmetic of a worker is small, and other tests run beside it.
    environment = {**inherited, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", **machine}

    def start(script: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(PROJECT / script), *arguments],
            capture_output=True,
            text=True,
            cwd=root,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    start("hydra_experiment_runner.py", *STUDY)
    printed = start("analysis/analyze.py", "experiment_name=two_gpus", "track=false")
    (results,) = root.rglob("results.json")
    (page,) = root.rglob("report.html")
    return Study(results.parent, read_json(results), read_verdict(root), page.read_text(), printed)


def test_every_cell_ran_three_times_and_passed(study: Study) -> None:
    assert {record["status"] for record in study.records} == {"passed"}
    cells = Counter((r["vit_name"], r["gpu_id"], r["numa_node"]) for r in study.records)
    wanted = [(m, g, n) for m in ("light", "heavy") for g in range(2) for n in (0, 1)]
    assert cells == dict.fromkeys(wanted, 3)


def test_the_verdict_is_what_was_planted_and_nothing_else(study: Study) -> None:
    found = claims(study.verdict)

    assert list(found) == [("light", f"GPU {SLOW_GPU} (node 1)", "node 0, memory 0")]
    assert list(found.values()) == [pytest.approx(REMOTE_LINK - 1, abs=0.01)]
    assert {v["kind"] for v in study.verdict["verdicts"]} == {"effect", "no_difference"}


def test_records_hold_what_the_simulated_hardware_said(study: Study) -> None:
    machine = plant()
    for record in study.records:
        gpu = machine.gpus[record["gpu_id"]]
        assert record["gpu_uuid"] == gpu.uuid
        assert record["gpu_numa_node"] == gpu.node
        assert record["placement"] == ("local" if record["numa_node"] == gpu.node else "remote")
        assert list(record["observed"]["pages"]) == [str(record["memory_node"])]
        assert record["placement_fraction"] == 1.0
        slow = record["gpu_id"] == SLOW_GPU and record["placement"] == "remote"
        rate = LINK["h2d_gb_per_s"] * (REMOTE_LINK if slow else 1)
        assert record["h2d_gb_per_s"] == pytest.approx(rate, rel=0.02)
        # The window's seconds are virtual, so hardly any reading falls into it.
        readings = read_json(study.directory / "runs" / record["run_id"] / "monitor.json")
        assert set(readings["series"]["sm_mhz"]) == {1980}


def test_nobody_can_mistake_it_for_a_measurement(study: Study) -> None:
    said = "a simulated machine, its times are made up"

    assert read_json(study.directory / "experiment_summary.json")["machine"]["simulated"] == said
    for record in study.records:
        assert f"simulated: {said}" in record["warnings"]
    assert f"Not a measurement: 24 of 24 runs are of {said}." in study.page
    assert study.printed.startswith("Not a measurement: 24 of 24 runs")
