"""The machine that the suite runs on: the nodes a test may have, or a skip where it lacks them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schema import HardwareConfig
from numa_bench.machine.model import NumaNode, Topology
from numa_bench.machine.topology import parse_cpu_list, read_topology
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import Placement
from numa_bench.runner.numactl import numactl_argv
from tests.numa.probe import Order, Report

PROJECT = Path(__file__).resolve().parent.parent.parent
#: A node with less memory than this can be filled by a test; a larger one is left alone.
SMALL_BYTES = 512_000_000


@dataclass(frozen=True)
class Machine:
    """A machine with several nodes. The properties skip the test where there is no such node.

    `nodes` are those this process may use: a container or a batch job may not have them all.
    """

    topology: Topology
    nodes: tuple[NumaNode, ...]

    @property
    def whole(self) -> NumaNode:
        """A node with CPUs and memory, the last: what is not bound at all starts on the first."""
        return self._one(lambda n: not n.cpuless and not n.memoryless, "with CPUs and memory")

    @property
    def other_memory(self) -> NumaNode:
        """Another node with memory."""
        whole = self.whole
        return self._one(lambda n: n != whole and not n.memoryless, "more, with memory")

    @property
    def memory_only(self) -> NumaNode:
        return self._one(lambda n: n.cpuless and not n.memoryless, "with memory and no CPUs")

    @property
    def memoryless(self) -> NumaNode:
        return self._one(lambda n: n.memoryless and not n.cpuless, "with CPUs and no memory")

    @property
    def small(self) -> NumaNode:
        """A node that a test may fill up."""
        return self._one(
            # Not what is free: caches shrink when a node fills up.
            lambda n: not n.cpuless and 0 < n.memory_bytes < SMALL_BYTES,
            f"with less than {SMALL_BYTES / 1e6:.0f} MB",
        )

    @property
    def stray_cpus(self) -> tuple[int, ...]:
        """CPUs of all nodes but `whole`."""
        whole = self.whole
        self._one(lambda n: n != whole and not n.cpuless, "more, with CPUs")
        return tuple(cpu for node in self.nodes if node != whole for cpu in node.cpus)

    @property
    def missing_number(self) -> int:
        """A number below the last node's that no node has."""
        used = {node.id for node in self.topology.nodes}
        holes = sorted(set(range(max(used))) - used)
        if not holes:
            pytest.skip(f"needs a hole in the node numbers; this machine has {sorted(used)}")
        return holes[0]

    def _one(self, fits: Any, what: str) -> NumaNode:
        found = [node for node in self.nodes if fits(node)]
        if not found:
            pytest.skip(f"needs a node {what}; this machine has {self}")
        return found[-1]

    def __str__(self) -> str:
        return ", ".join(
            f"node {n.id} ({len(n.cpus)} CPUs, {n.memory_bytes / 1e6:.0f} MB)" for n in self.nodes
        )


def this_machine() -> Machine:
    """The machine, or a skip: one node, no numactl, or not allowed to bind."""
    topology = read_topology(Path("/"))
    if len(topology.nodes) < 2:
        pytest.skip("needs several NUMA nodes; this machine has one")
    if shutil.which("numactl") is None:
        pytest.skip("needs numactl, which is not installed")
    allowed = os.sched_getaffinity(0)
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^Mems_allowed_list:\s*(\S+)", status, re.M)
    memory = parse_cpu_list(match[1]) if match else topology.memory_nodes
    nodes = tuple(
        node
        for node in topology.nodes
        if (node.cpuless or set(node.cpus) <= allowed) and (node.memoryless or node.id in memory)
    )
    machine = Machine(topology, nodes)
    tried = subprocess.run(
        ["numactl", f"--membind={machine.whole.id}", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"needs to be allowed to bind; numactl says: {tried.stderr.strip()}")
    return machine


def placed(machine: Machine, **hardware: Any) -> Placement:
    """The one placement that these settings of experiment.hardware mean, as a study plans it."""
    config = HardwareConfig(device="cpu", **hardware)
    (placement,) = resolve_placements(config, machine.topology, None)
    return placement


def run_probe(order: Order, started_as: Placement | None = None) -> Report:
    """Run a probe bound as its order's placement says, or as another one to make it misplaced."""
    argv = [*numactl_argv(started_as or order.placement), *probe_argv(order)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    return Report(**json.loads(done.stdout))


def probe_argv(order: Order) -> list[str]:
    return [sys.executable, "-m", "tests.numa.probe", order.to_json()]


def run_cli(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the project's files, as a user does, with these environment variables."""
    return subprocess.run(
        [sys.executable, *argv],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **variables},
        check=False,
    )
