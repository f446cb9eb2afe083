"""What a machine cannot do is reported, before the run or in its record."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.records import RUN_TOKEN
from numa_bench.runner.interrupts import Interrupts
from numa_bench.runner.numactl import numactl_argv
from numa_bench.runner.outcome import classify_outcome
from numa_bench.runner.process import Command, run_process
from numa_bench.runner.worker_run import read_last_lines, read_result
from numa_bench.store import StudyStore
from tests.numa.machine import PROJECT, Machine, placed, probe_argv, run_cli
from tests.numa.probe import Order
from tests.specs import make_spec

RUNNER = ("hydra_experiment_runner.py", "dry_run=true", "experiment=quick_test")


def refused(tmp_path: Path, *overrides: str) -> str:
    """The one line with which a command line is refused, with exit code 2."""
    done = run_cli(*RUNNER, f"output.root={tmp_path}", *overrides)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.slow
def test_a_node_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    absent = max(node.id for node in machine.topology.nodes) + 5
    line = refused(tmp_path, f"experiment.hardware.numa_nodes={absent}")
    assert line.startswith(f"error: experiment.hardware.numa_nodes={absent}: no such node")
    assert ", ".join(map(str, machine.topology.cpu_nodes)) in line


def test_a_hole_in_the_numbers_is_no_node(machine: Machine, tmp_path: Path) -> None:
    hole = machine.missing_number
    line = refused(tmp_path, f"experiment.hardware.memory_nodes={hole}")
    assert line.startswith(f"error: experiment.hardware.memory_nodes={hole}: no such node")
    assert ", ".join(map(str, machine.topology.memory_nodes)) in line


def test_a_memory_only_node_runs_nothing(machine: Machine, tmp_path: Path) -> None:
    node = machine.memory_only.id
    line = refused(tmp_path, f"experiment.hardware.numa_nodes={node}")
    assert line.startswith(f"error: experiment.hardware.numa_nodes={node}: ")
    assert "memory but no CPUs" in line


def test_a_node_without_memory_holds_none(machine: Machine, tmp_path: Path) -> None:
    node = machine.memoryless.id
    line = refused(tmp_path, f"experiment.hardware.memory_nodes={node}")
    assert line.startswith(f"error: experiment.hardware.memory_nodes={node}: ")
    assert "CPUs but no memory" in line


def test_a_bound_node_that_is_too_small_is_named(machine: Machine, tmp_path: Path) -> None:
    node = machine.small
    spec = make_spec(placement=placed(machine, numa_nodes=node.id, memory_nodes="same"))
    order = Order(spec.placement, mb=int((node.memory_free_bytes or 0) / 1e6) + 256)
    token = f"oom-{os.getpid()}"
    command = Command(
        argv=(*numactl_argv(spec.placement), *probe_argv(order)),
        env={**os.environ, RUN_TOKEN: token, "PYTHONPATH": str(PROJECT)},
        token=token,
    )
    with StudyStore(tmp_path) as store, Interrupts() as interrupts:
        paths = store.prepare_run(spec)
        ended = run_process(
            command,
            paths.stdout,
            paths.stderr,
            timeout_s=240.0,
            grace_s=5.0,
            interrupts=interrupts,
        )
    assert (ended.returncode, ended.reason) == (-9, "exited")
    assert ended.oom_kills >= 1
    assert paths.stderr.read_bytes() == b""
    result, problem = read_result(paths)
    tail = read_last_lines(paths.stderr, 12)
    status, error = classify_outcome(spec, ended, result, problem, tail, machine.topology)
    assert status == "failed"
    assert error is not None
    size = f"{node.memory_bytes / 1e6:.0f} MB"
    assert error.startswith(f"killed: out of memory on node {node.id}, which has {size}; ")
    # Without the kernel's count it may have been anyone.
    quiet = replace(ended, oom_kills=0)
    _, error = classify_outcome(spec, quiet, result, problem, tail, machine.topology)
    assert error is not None
    assert "by hand or for lack of memory" in error
