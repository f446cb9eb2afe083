"""CPUs chosen by affinity mode, by number or without SMT siblings, proven by the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from numa_bench.config.schema import HardwareConfig
from numa_bench.machine.topology import format_cpu_list
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import Placement
from tests.machines import make_gpu
from tests.numa.machine import Machine, placed, run_probe
from tests.numa.probe import Order
from tests.numa.test_placements import assert_on_cpus, assert_policy


def place_on_whole(machine: Machine, **hardware: Any) -> Placement:
    """CPUs and memory of a whole node, with these settings."""
    return placed(machine, numa_nodes=machine.whole.id, memory_nodes="same", **hardware)


def share_of_last_gpu(machine: Machine) -> Placement:
    """The exclusive share of the last of as many made-up GPUs as the node has cores."""
    node = machine.whole
    gpus = tuple(make_gpu(index, node.id) for index in range(len(node.cores)))
    hardware = HardwareConfig(numa_nodes="local", memory_nodes="same", cpu_affinity="exclusive")
    topology = replace(machine.topology, gpus=gpus)
    (placement,) = resolve_placements(hardware, topology, gpus[-1])
    return placement


def test_cpus_of_a_socket(machine: Machine) -> None:
    node = machine.whole
    placement = place_on_whole(machine, cpu_affinity="socket")
    sockets = [other for other in machine.topology.nodes if other.socket == node.socket]
    assert set(placement.cpus) == {cpu for member in sockets for cpu in member.cpus}
    if not set(placement.cpus) <= {cpu for member in machine.nodes for cpu in member.cpus}:
        pytest.skip("needs all CPUs of the socket")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert_on_cpus(report, placement)
    assert_policy(report, "bind", (node.id,))


def test_a_share_of_the_cores(machine: Machine) -> None:
    placement = share_of_last_gpu(machine)
    assert placement.cpus == machine.whole.cores[-1]
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert_on_cpus(report, placement)


@pytest.mark.parametrize("smt", [True, False])
def test_cpus_by_number(machine: Machine, smt: bool) -> None:
    memory = machine.other_memory
    core = machine.whole.cores[-1]
    placement = placed(machine, physcpu=format_cpu_list(core), memory_nodes=memory.id, smt=smt)
    assert placement.cpus == (core if smt else core[:1])
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert_on_cpus(report, placement)
    assert_policy(report, "bind", (memory.id,))


def test_threads_outside_the_planned_cpus_are_reported(machine: Machine) -> None:
    """On the right node, but not on the CPUs of the plan."""
    node = machine.whole
    placement = placed(machine, physcpu=[node.cpus[0]], memory_nodes=node.id)
    given = place_on_whole(machine)
    report = run_probe(Order(placement), given)
    allowed = format_cpu_list(node.cpus)
    if len(node.cpus) == 1:
        pytest.skip("needs a node of several CPUs")
    assert report.problem == (
        f"threads may run on CPUs {allowed}, outside the planned CPUs {node.cpus[0]}"
    )
