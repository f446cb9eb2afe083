"""How sockets are divided into NUMA nodes, in the words of each vendor."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.machine.model import Topology
from numa_bench.machine.numa_mode import count_nodes_per_package, describe_numa_mode
from numa_bench.machine.topology import read_topology
from tests.fake_sysfs import FakeNode, build_tree, write
from tests.machine.test_topology import CAPTURES, NAMES, NO_CAPTURE
from tests.machines import make_node, with_memory_only_node

AMD, INTEL = "AMD EPYC 9654 96-Core Processor", "Intel(R) Xeon(R) Platinum 8480+"


def machine(*nodes_of_socket: int, l3: int = 2) -> Topology:
    """So many nodes on each socket, of `l3` CPUs and as many L3 caches each."""
    sockets = [socket for socket, count in enumerate(nodes_of_socket) for _ in range(count)]
    return Topology(
        tuple(
            make_node(
                i,
                range(l3 * i, l3 * (i + 1)),
                {},
                socket=socket,
                l3_domains=tuple((cpu,) for cpu in range(l3 * i, l3 * (i + 1))),
            )
            for i, socket in enumerate(sockets)
        ),
        (),
    )


@pytest.mark.parametrize(
    ("topology", "cpu_model", "count", "mode"),
    [
        (machine(1, 1), AMD, 1, "1 NUMA node per socket"),
        (machine(1), None, 1, "1 NUMA node per socket"),
        (machine(2, 2), AMD, 2, "NPS2 (2 NUMA nodes per socket)"),
        (machine(4, 4), AMD, 4, "NPS4 (4 NUMA nodes per socket)"),
        (machine(4, 4, l3=1), AMD, 4, "NPS4 (4 NUMA nodes per socket)"),
        (machine(8, 8, l3=1), AMD, 8, "8 NUMA nodes per socket, one for each L3 cache"),
        (machine(3, 3), AMD, 3, "3 NUMA nodes per socket"),
        (machine(2, 2), INTEL, 2, "SNC2 (2 NUMA nodes per socket)"),
        (machine(3, 3), INTEL, 3, "SNC3 (3 NUMA nodes per socket)"),
        (machine(4), None, 4, "4 NUMA nodes per socket"),
        (machine(4), "Neoverse-N1", 4, "4 NUMA nodes per socket"),
        (machine(2, 1), INTEL, None, "1 or 2 NUMA nodes per socket"),
        # Memory alone is of no socket.
        (with_memory_only_node(), INTEL, 1, "1 NUMA node per socket"),
    ],
)
def test_the_mode_follows_from_nodes_packages_and_vendor(
    topology: Topology, cpu_model: str | None, count: int | None, mode: str
) -> None:
    assert count_nodes_per_package(topology) == count
    assert describe_numa_mode(topology, cpu_model) == mode


def test_the_mode_is_unknown_where_a_package_is() -> None:
    first, second = machine(1, 1).nodes
    partly = Topology((first, replace(second, packages=())), ())

    for topology in (partly, Topology((), ())):
        assert count_nodes_per_package(topology) is None
        assert describe_numa_mode(topology, AMD) is None


def test_a_node_of_two_sockets_is_not_one_node_per_socket(tmp_path: Path) -> None:
    """NPS0, node interleaving, or a virtual machine with a socket for each CPU."""
    build_tree(tmp_path, [FakeNode(0, "0-3")])
    for cpu in range(4):
        write(
            tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", str(cpu // 2)
        )

    topology = read_topology(tmp_path)

    assert (topology.nodes[0].packages, topology.nodes[0].socket) == ((0, 1), 0)
    assert count_nodes_per_package(topology) is None
    assert describe_numa_mode(topology, AMD) == "1 NUMA node for 2 sockets"


def test_packages_are_unknown_if_one_cpu_does_not_name_its_own(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")])
    write(tmp_path, "sys/devices/system/cpu/cpu0/topology/physical_package_id", "0")
    write(tmp_path, "sys/devices/system/cpu/cpu1/topology/physical_package_id", "-1")

    (node,) = read_topology(tmp_path).nodes

    assert (node.packages, node.socket) == ((), 0)


@pytest.mark.parametrize("name", NAMES or [NO_CAPTURE])
def test_captured_nodes_per_package(name: str, tmp_path: Path) -> None:
    with tarfile.open(CAPTURES / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((CAPTURES / f"{name}.expected.json").read_text())
    with_cpus = [node["cpus"] for node in expected["nodes"] if node["cpus"]]
    packages = [set(package["cpus"]) for package in expected["packages"]]
    whole = all(any(package.issuperset(cpus) for package in packages) for cpus in with_cpus)

    found = count_nodes_per_package(read_topology(tmp_path))

    assert found == (len(with_cpus) // len(packages) if whole else None)
