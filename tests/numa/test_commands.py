"""Commands that know nothing of NUMA, under placements: where their memory was, and the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.numa.machine import PROJECT, Machine

pytestmark = pytest.mark.slow


def test_a_memory_benchmark_with_its_memory_elsewhere(machine: Machine, tmp_path: Path) -> None:
    """One line, as a user types it: each run's memory is proven, and the page has a verdict.

    A virtual machine has one kind of memory, so nothing is said of the difference.
    """
    node, other = machine.whole.id, machine.other_memory.id
    line = [sys.executable, "-m", "numa_bench", "compare-placements", "--gpus", "cpu"]
    line += ["--nodes", str(node), "--repeats", "3", "--output", str(tmp_path)]
    line += ["--set", f"experiment.hardware.memory_nodes=[{node},{other}]"]
    line += ["--metric", "triad:higher:GB/s=triad ([0-9.]+)"]
    line += [
        "--",
        sys.executable,
        "examples/own_workloads/stream.py",
        "--mb",
        "16",
        "--rounds",
        "40",
    ]

    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (study,) = tmp_path.glob("command_study/*/*")
    records = json.loads((study / "results.json").read_text())
    assert len(records) == 6
    for record in records:
        assert (record["status"], record["error"]) == ("passed", None)
        assert record["placement"] == ("local" if record["memory_node"] == node else "remote")
        assert record["placement_fraction"] == pytest.approx(1, abs=0.05)
        own = record["observed"]["memory_at_peak"]["anonymous"]
        assert own[str(record["memory_node"])] > 30e6  # of three arrays of 16 MB
        assert record["observed"]["escaped_threads"] == 0
        assert record["metric_triad"] > 0
    assert {record["memory_node"] for record in records} == {node, other}
    (file,) = tmp_path.rglob("verdict.json")
    found = json.loads(file.read_text())
    (verdict,) = found["study_verdicts"]
    assert verdict["comparisons"] == 1
    assert " ".join(verdict["text"].split()) in " ".join(done.stdout.split())
    assert [one["placement"] for one in found["verdicts"]] == ["remote"]
    (page,) = tmp_path.rglob("report.html")
    assert "triad" in page.read_text()
