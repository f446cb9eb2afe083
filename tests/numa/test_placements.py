"""Each kind of placement, as a study plans it and numactl sets it, proven by the kernel."""

from __future__ import annotations

import os
import re

import pytest

from numa_bench.machine.topology import parse_cpu_list
from numa_bench.records import Placement
from tests.numa.machine import Machine, placed, run_probe
from tests.numa.probe import PAGE, Order, Report


def assert_on_cpus(report: Report, placement: Placement) -> None:
    """Every thread may run on the placement's CPUs only, and did."""
    own = set(placement.cpus)
    assert own
    assert set(parse_cpu_list(report.observed["cpus_allowed"])) == own
    assert report.observed["thread_cpus_allowed"] == [report.observed["cpus_allowed"]]
    assert set(report.ran_on) <= own
    shown = re.search(r"physcpubind:([\d ]+)", report.numactl_show)
    assert shown
    assert {int(cpu) for cpu in shown[1].split()} == own


def assert_sources_agree(report: Report, mb: int) -> None:
    """move_pages, numa_maps read by us, and the buffer's own line count the same pages."""
    assert report.observed["method"] == "move_pages"
    assert report.observed["pages_missing"] == 0
    assert sum(report.observed["pages"].values()) == mb * 1_000_000 // PAGE
    assert report.observed["pages"] == report.maps_pages
    assert report.observed_by_maps["method"] == "numa_maps"
    assert report.observed_by_maps["pages"] == report.maps_pages


def assert_all_somewhere(report: Report, mb: int) -> None:
    """Every page is on some node. Which one may change between two looks: under the default policy
    the kernel moves pages to where they are used, if it balances automatically."""
    assert report.observed["pages_missing"] == 0
    assert sum(report.observed["pages"].values()) == mb * 1_000_000 // PAGE
    assert sum(report.maps_pages.values()) == mb * 1_000_000 // PAGE


def assert_policy(report: Report, mode: str, nodes: tuple[int, ...]) -> None:
    """get_mempolicy, numa_maps and numactl agree on the policy."""
    assert (report.observed["policy"], report.observed["policy_nodes"]) == (mode, list(nodes))
    kind, _, listed = report.maps_policy.partition(":")
    assert (kind, parse_cpu_list(listed)) == (mode, nodes)
    assert re.search(rf"^policy: {mode}", report.numactl_show, re.M)


def test_bind(machine: Machine) -> None:
    node = machine.whole
    placement = placed(machine, numa_nodes=node.id, memory_nodes="same")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert placement.label == "local"
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)
    assert_policy(report, "bind", (node.id,))
    assert re.search(rf"^membind: {node.id} *$", report.numactl_show, re.M)


def test_cpus_on_one_node_and_memory_on_another(machine: Machine) -> None:
    memory = machine.other_memory
    placement = placed(machine, numa_nodes=machine.whole.id, memory_nodes=memory.id)
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    apart = machine.topology.distance_class(machine.whole.id, memory.id)
    assert placement.label == {"same_socket": "same_socket", "other_socket": "remote"}[apart]
    assert set(report.observed["pages"]) == {str(memory.id)}
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)
    assert_policy(report, "bind", (memory.id,))


def test_memory_bound_and_cpus_free(machine: Machine) -> None:
    node = machine.other_memory
    placement = placed(machine, numa_nodes="unbound", memory_nodes=node.id)
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert set(report.observed["pages"]) == {str(node.id)}
    assert set(parse_cpu_list(report.observed["cpus_allowed"])) == os.sched_getaffinity(0)


def test_preferred(machine: Machine) -> None:
    node = machine.whole
    placement = placed(machine, numa_nodes=node.id, memory_nodes="same", memory_policy="preferred")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)
    assert_policy(report, "prefer", (node.id,))


def test_interleave_is_even(machine: Machine) -> None:
    nodes = machine.topology.memory_nodes
    placement = placed(machine, numa_nodes=machine.whole.id, memory_policy="interleave")
    report = run_probe(Order(placement, mb=96))
    assert (report.fraction, report.problem) == (1.0, None)
    assert placement.memory_nodes == nodes
    assert len(nodes) > 1
    shares = [n / sum(report.maps_pages.values()) for n in report.maps_pages.values()]
    assert len(shares) == len(nodes)
    assert max(abs(share - 1 / len(nodes)) for share in shares) < 0.05
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 96)
    assert_policy(report, "interleave", nodes)


def test_interleave_too_small_for_huge_pages_says_so(machine: Machine) -> None:
    placement = placed(machine, numa_nodes=machine.whole.id, memory_policy="interleave")
    report = run_probe(Order(placement, mb=7))
    if report.observed["transparent_hugepages"] != "always" or not report.huge_kb:
        pytest.skip("needs transparent huge pages [always] that fit into 7 MB")
    assert report.problem is not None
    assert "not spread evenly" in report.problem
    assert "experiment.test.memory_size_mb=84 or more" in report.problem


def test_local(machine: Machine) -> None:
    node = machine.whole
    placement = placed(machine, numa_nodes=node.id, memory_policy="local")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert set(report.observed["pages"]) == {str(node.id)}
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)
    assert report.observed["policy_nodes"] == []
    if report.observed["policy"] != "prefer":  # as Linux before 5.14 calls it
        assert_policy(report, "local", ())


def test_policy_none_binds_cpus_and_leaves_memory_to_the_kernel(machine: Machine) -> None:
    placement = placed(machine, numa_nodes=machine.whole.id, memory_policy="none")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (None, None)
    assert_on_cpus(report, placement)
    assert_all_somewhere(report, 32)
    assert_policy(report, "default", ())


def test_unbound_is_not_bound(machine: Machine) -> None:
    placement = placed(machine, numa_nodes="unbound")
    assert not placement.bound
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (None, None)
    assert_all_somewhere(report, 32)
    assert_policy(report, "default", ())


def test_huge_pages_are_counted_as_the_pages_they_hold(machine: Machine) -> None:
    placement = placed(machine, numa_nodes=machine.whole.id, memory_nodes="same")
    report = run_probe(Order(placement))
    if report.observed["transparent_hugepages"] != "always":
        pytest.skip("needs transparent huge pages [always]")
    huge = report.observed["huge_page_bytes"]
    if huge > 8_000_000:
        pytest.skip(f"needs huge pages that fit into 32 MB; here they have {huge / 1e6:.0f} MB")
    assert report.huge_kb * 1024 >= 32_000_000 - 2 * huge
    assert_sources_agree(report, 32)
    assert report.fraction == 1.0


def test_memory_only_node_holds_memory(machine: Machine) -> None:
    node = machine.memory_only
    placement = placed(machine, numa_nodes=machine.whole.id, memory_nodes=node.id)
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert set(report.observed["pages"]) == {str(node.id)}
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)


def test_node_without_memory_is_bound_by_its_cpus(machine: Machine) -> None:
    node, memory = machine.memoryless, machine.other_memory
    placement = placed(machine, numa_nodes=node.id, memory_nodes=memory.id)
    assert placement.by_cpu
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert set(report.observed["pages"]) == {str(memory.id)}
    assert_on_cpus(report, placement)
    assert_sources_agree(report, 32)
    assert_policy(report, "bind", (memory.id,))


def test_local_memory_of_a_node_without_memory_is_nearby(machine: Machine) -> None:
    """The kernel chooses among equally near nodes as it likes; each of them is local."""
    node = machine.memoryless
    placement = placed(machine, numa_nodes=node.id, memory_policy="local")
    report = run_probe(Order(placement))
    (used,) = map(int, report.observed["pages"])
    nearest = min(node.distances[other] for other in machine.topology.memory_nodes)
    assert node.distances[used] == nearest
    assert (report.fraction, report.problem) == (1.0, None)
    assert_on_cpus(report, placement)


def test_numbering_with_a_hole(machine: Machine) -> None:
    hole = machine.missing_number
    node = machine.whole
    assert node.id > hole
    assert hole not in machine.topology.cpu_nodes
    assert all(hole not in n.distances and n.distances[n.id] == 10 for n in machine.nodes)
    placement = placed(machine, numa_nodes=node.id, memory_nodes="same")
    report = run_probe(Order(placement))
    assert (report.fraction, report.problem) == (1.0, None)
    assert set(report.observed["pages"]) == {str(node.id)}
    assert_on_cpus(report, placement)


def test_preferred_spills_when_its_node_is_full(machine: Machine) -> None:
    node = machine.small
    free = node.memory_free_bytes or 0
    placement = placed(
        machine, numa_nodes=machine.whole.id, memory_nodes=node.id, memory_policy="preferred"
    )
    mb = int(free / 1e6) + 64
    report = run_probe(Order(placement, mb=mb))
    assert report.problem is None
    assert report.fraction is not None
    assert 0 < report.fraction < 1
    assert len(report.observed["pages"]) > 1
    assert_sources_agree(report, mb)
