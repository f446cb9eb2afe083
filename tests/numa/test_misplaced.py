"""What is not where it should be is found out, and said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from numa_bench.machine.topology import format_cpu_list
from tests.numa.machine import Machine, placed, run_probe
from tests.numa.probe import PAGE, Order


def test_buffer_bound_elsewhere_by_mbind(machine: Machine) -> None:
    node, other = machine.whole.id, machine.other_memory.id
    placement = placed(machine, numa_nodes=node, memory_nodes="same")
    report = run_probe(Order(placement, mbind=other))
    pages = 32_000_000 // PAGE
    assert report.maps_policy == f"bind:{other}"
    assert report.fraction == 0.0
    assert report.problem == (
        f"only 0.0% of buffer pages are on node {node} (pages: node {other}: {pages})"
    )


def test_process_bound_elsewhere_by_set_mempolicy(machine: Machine) -> None:
    node, other = machine.whole.id, machine.other_memory.id
    placement = placed(machine, numa_nodes=node, memory_nodes="same")
    report = run_probe(Order(placement, set_mempolicy=other))
    assert report.fraction == 0.0
    assert report.problem is not None
    assert f"(pages: node {other}: " in report.problem


def test_numactl_told_another_memory_node(machine: Machine) -> None:
    node, other = machine.whole.id, machine.other_memory.id
    placement = placed(machine, numa_nodes=node, memory_nodes="same")
    report = run_probe(Order(placement), placed(machine, numa_nodes=node, memory_nodes=other))
    assert report.fraction == 0.0
    assert report.problem is not None
    assert f"(pages: node {other}: " in report.problem


def test_not_bound_at_all(machine: Machine) -> None:
    _ = machine.stray_cpus
    placement = placed(machine, numa_nodes=machine.whole.id, memory_nodes="same")
    report = run_probe(Order(placement), placed(machine, numa_nodes="unbound"))
    assert report.problem is not None
    assert f"outside node {machine.whole.id}" in report.problem
    assert report.observed["cpus_allowed"] in report.problem


@pytest.mark.parametrize("policy", ["preferred", "interleave"])
def test_a_policy_other_than_asked_for(machine: Machine, policy: str) -> None:
    """Pages alone prove nothing: under preferred they may spill anywhere."""
    node, other = machine.whole.id, machine.other_memory.id
    asked = placed(machine, numa_nodes=node, memory_nodes=[node], memory_policy=policy)
    given = replace(asked, memory_nodes=(other,))
    report = run_probe(Order(asked), given)
    assert report.fraction == 0.0
    assert report.problem is not None
    assert f"node {other}: " in report.problem or f":{other}, not {policy}:" in report.problem


def test_one_stray_thread(machine: Machine) -> None:
    node = machine.whole
    stray = machine.stray_cpus
    placement = placed(machine, numa_nodes=node.id, memory_nodes="same")
    report = run_probe(Order(placement, cpus=stray))
    assert report.observed["cpus_allowed"] == format_cpu_list(node.cpus)
    assert report.problem == (
        f"threads may run on CPUs {format_cpu_list(stray)}, outside node {node.id}"
    )


def test_pages_never_touched_are_nowhere(machine: Machine) -> None:
    placement = placed(machine, numa_nodes=machine.whole.id, memory_nodes="same")
    report = run_probe(Order(placement, touch=0.5))
    seen = report.observed
    assert sum(seen["pages"].values()) + seen["pages_missing"] == 32_000_000 // PAGE
    assert seen["pages_missing"] > 0
    assert report.fraction is not None
    assert report.fraction < 0.99
    assert report.problem is not None
    assert "of buffer pages are on node" in report.problem
