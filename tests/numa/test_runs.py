"""Real workers with torch, and a real study. Slow: torch is imported in every one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.machine.topology import format_cpu_list
from numa_bench.profiling.launch import Profiler
from numa_bench.records import Placement, RunResult, RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.store import StudyStore
from tests.numa.machine import PROJECT, Machine, placed, run_cli
from tests.numa.plain_kernels import backend_variables
from tests.specs import make_spec

NO_PROFILER = Profiler("none", ProfilerConfig())

pytestmark = pytest.mark.slow


def run_worker(tmp_path: Path, placement: Placement, **test: Any) -> tuple[RunSpec, RunResult]:
    """One run by the command line that a study starts."""
    spec = make_spec(placement=placement, cpu_threads=None, **test)
    with StudyStore(tmp_path) as store:
        paths = store.prepare_run(spec)
    command = worker_command(spec, paths, os.environ, "numa-tests", NO_PROFILER, tmp_path)
    done = subprocess.run(
        command.argv, env=command.env, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    return spec, RunResult.from_dict(json.loads(paths.result.read_text()))


def assert_ran_on(result: RunResult, placement: Placement) -> None:
    """Every thread of the worker, torch's own included, may run on the placement's CPUs only."""
    cpus = format_cpu_list(placement.cpus)
    assert result.observed["cpus_allowed"] == cpus
    assert result.observed["thread_cpus_allowed"] == [cpus]
    assert result.observed["cpu_threads"] == len(placement.cpus)


def test_interleaved_worker(machine: Machine, tmp_path: Path) -> None:
    placement = placed(machine, numa_nodes=machine.whole.id, memory_policy="interleave")
    _, result = run_worker(tmp_path, placement, memory_size_mb=64)
    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["placement_fraction"] == 1.0
    assert len(result.observed["pages"]) == len(machine.topology.memory_nodes)
    assert result.observed["policy"] == "interleave"
    assert_ran_on(result, placement)


def test_worker_on_a_node_without_memory(machine: Machine, tmp_path: Path) -> None:
    node, memory = machine.memoryless, machine.other_memory
    placement = placed(machine, numa_nodes=node.id, memory_nodes=memory.id)
    _, result = run_worker(tmp_path, placement, memory_size_mb=8)
    assert (result.status, result.error) == ("passed", None)
    assert set(result.observed["pages"]) == {str(memory.id)}
    assert_ran_on(result, placement)


def test_misplaced_worker_is_invalid(machine: Machine, tmp_path: Path) -> None:
    """Spec and numactl arguments name different nodes: the record is kept, as invalid."""
    node, other = machine.whole.id, machine.other_memory.id
    asked = placed(machine, numa_nodes=node, memory_nodes="same")
    given = placed(machine, numa_nodes=node, memory_nodes=other)
    spec = make_spec(placement=asked, memory_size_mb=8)
    with StudyStore(tmp_path) as store:
        paths = store.prepare_run(spec)
    command = worker_command(spec, paths, os.environ, "numa-tests", NO_PROFILER, tmp_path)
    swapped = [
        word.replace(f"--membind={node}", f"--membind={given.memory_nodes[0]}")
        for word in command.argv
    ]
    done = subprocess.run(
        swapped, env=command.env, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    result = RunResult.from_dict(json.loads(paths.result.read_text()))
    assert result.status == "invalid"
    assert result.metrics["placement_fraction"] == 0.0
    assert result.metrics["throughput_samples_per_s"]
    assert result.error is not None
    assert f"on node {node} (pages: node {other}: " in result.error


def test_study_local_and_remote(machine: Machine, tmp_path: Path) -> None:
    node, other = machine.whole.id, machine.other_memory.id
    done = run_cli(
        "hydra_experiment_runner.py",
        "experiment=quick_test",
        "experiment.name=numa_test",
        "experiment.vit_configs=[{patch_size: 32, depth: 1, dim: 32}]",
        "experiment.test.image_size=64",
        "experiment.test.batch_size=2",
        "experiment.test.num_samples=8",
        "experiment.test.warmup_samples=2",
        "experiment.test.memory_size_mb=8",
        "experiment.hardware.device=cpu",
        f"experiment.hardware.numa_nodes=[{node}]",
        f"experiment.hardware.memory_nodes=[{node},{other}]",
        f"output.root={tmp_path}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (study,) = tmp_path.glob("numa_test/*/*")
    records = {r["memory_node"]: r for r in json.loads((study / "results.json").read_text())}
    assert set(records) == {node, other}
    for memory, record in records.items():
        assert (record["status"], record["error"]) == ("passed", None)
        assert record["numa_node"] == node
        assert record["placement"] == ("local" if memory == node else "remote")
        assert record["placement_fraction"] == 1.0
        assert set(record["observed"]["pages"]) == {str(memory)}
        assert record["observed"]["policy_nodes"] == [memory]
        assert record["observed"]["cpus_allowed"] == format_cpu_list(machine.whole.cpus)
        assert record["throughput_samples_per_s"] > 0
    found = json.loads((study / "topology.json").read_text())
    assert [n["id"] for n in found["nodes"]] == [n.id for n in machine.topology.nodes]
    assert PROJECT not in study.parents


def test_each_worker_of_a_set_is_where_it_was_planned(machine: Machine, tmp_path: Path) -> None:
    """Two nodes and more: one worker on each, all with their memory elsewhere."""
    if len(machine.topology.cpu_nodes) < 2 or len(machine.topology.memory_nodes) < 2:
        pytest.skip("needs two nodes with CPUs and memory")
    done = run_cli(
        "hydra_experiment_runner.py",
        "experiment=contention_study",
        "experiment.name=set_test",
        "experiment.repeats=1",
        "experiment.contention.scenarios=[all_remote]",
        "experiment.contention.workers_per_node=1",
        "experiment.contention.buffer_mb=8",
        "experiment.contention.window_s=0.2",
        "experiment.hardware.device=cpu",
        f"output.root={tmp_path}",
        **backend_variables(),
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    (study,) = tmp_path.glob("set_test/*/*")
    (record,) = json.loads((study / "results.json").read_text())
    # Under emulation the windows may share too little; where the memory was is known then too.
    assert record["status"] in ("passed", "invalid"), record["error"]
    assert len(record["workers"]) == len(machine.topology.cpu_nodes)
    assert len({worker["numa_node"] for worker in record["workers"]}) == len(record["workers"])
    for worker in record["workers"]:
        assert worker["status"] == "passed", worker["error"]
        assert worker["placement_fraction"] == 1.0
        assert worker["numa_node"] != worker["memory_node"]
        files = study / "runs" / record["run_id"] / worker["name"]
        observed = json.loads((files / "result.json").read_text())["observed"]
        assert set(observed["pages"]) == {str(worker["memory_node"])}
        (node,) = (n for n in machine.topology.nodes if n.id == worker["numa_node"])
        assert observed["cpus_allowed"] == format_cpu_list(node.cpus)
