"""Topologies: captured machines, made-up ones, NVML, and the program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numa_bench.errors import MachineError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.machine.topology import (
    discover_topology,
    format_cpu_list,
    parse_cpu_list,
    read_topology,
    select_visible_gpus,
)
from tests import machines
from tests.conftest import PROJECT
from tests.fake_gpu_state import FakeGpuNvml, GpuState
from tests.fake_sysfs import (
    GIB_KB,
    FakeGpu,
    FakeNode,
    FakeNvml,
    NvmlError,
    build_tree,
    eight_gpu_server,
    eight_gpus,
    write,
    write_cache,
)

REPOSITORY = PROJECT
CAPTURES = REPOSITORY.parent / "shared" / "captures"
NAMES = sorted(
    path.name.removesuffix(".expected.json") for path in CAPTURES.glob("*.expected.json")
)
NO_CAPTURE = pytest.param("", marks=pytest.mark.skip(reason=f"no captured machines in {CAPTURES}"))


def only(rows: list[dict[str, object]], keys: str) -> list[dict[str, object]]:
    return [{key: row[key] for key in keys.split()} for row in rows]


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "numa_bench.topology", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- captured machines


@pytest.mark.parametrize("name", NAMES or [NO_CAPTURE])
def test_captured_machine_is_read_as_expected(name: str, tmp_path: Path) -> None:
    with tarfile.open(CAPTURES / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((CAPTURES / f"{name}.expected.json").read_text())

    found = read_topology(tmp_path).to_dict()

    nodes = "id cpus memory_bytes distances cpuless memoryless"
    gpus = "pci_address vendor device numa_node"
    assert only(found["nodes"], nodes) == only(expected["nodes"], nodes)
    assert only(found["gpus"], gpus) == only(expected["gpus"], gpus)
    assert set(found["cpus_offline"]) == (
        set(expected["cpus"]["present"]) - set(expected["cpus"]["online"])
    )
    assert found["notes"] == []


# --- made-up machines


def test_distance_classes_follow_sockets(tmp_path: Path) -> None:
    # Nodes of one package with all distances alike, which SLIT alone would call other sockets.
    distances = [[10 if n == m else 20 for m in range(4)] for n in range(4)]
    build_tree(tmp_path, [FakeNode(n, f"{n}", distances=distances[n]) for n in range(4)])
    for cpu in range(4):
        write(
            tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id", str(cpu % 2)
        )
    topology = read_topology(tmp_path)
    assert [node.socket for node in topology.nodes] == [0, 1, 0, 1]
    classes = [topology.distance_class(0, node.id) for node in topology.nodes]
    assert classes == ["same_node", "other_socket", "same_socket", "other_socket"]


def test_cores_and_caches_are_those_of_the_nodes_own_cpus(tmp_path: Path) -> None:
    """An L3 that two nodes share (sub-NUMA clustering) is a domain of each."""
    nodes = [
        FakeNode(0, "0-3", cores=("0,2", "1,3"), l3=("0-7",)),
        FakeNode(1, "4-7", cores=("4,6", "5,7"), l3=("0-7",)),
        FakeNode(2, "8-11", cores=("8,10", "9,11"), l3=("8,10", "9,11")),
    ]
    first, second, third = read_topology(build_tree(tmp_path, nodes)).nodes

    assert (first.cores, first.l3_domains) == (((0, 2), (1, 3)), ((0, 1, 2, 3),))
    assert (second.cores, second.l3_domains) == (((4, 6), (5, 7)), ((4, 5, 6, 7),))
    assert (third.cores, third.l3_domains) == (((8, 10), (9, 11)),) * 2
    assert third.llc_bytes == 2 * 32 * 2**20


def test_a_sibling_that_is_offline_is_not_in_its_core(tmp_path: Path) -> None:
    tree = build_tree(tmp_path, [FakeNode(0, "0-3", cores=("0,2", "1,3"))], online="0-2")

    (node,) = read_topology(tree).nodes

    assert (node.cores, node.l3_domains) == (((0, 2), (1,)), ((0, 1, 2),))


def test_cores_and_domains_are_empty_where_the_kernel_does_not_say(tmp_path: Path) -> None:
    (node,) = read_topology(build_tree(tmp_path, [FakeNode(0, "0-1", llc_kb=None)])).nodes

    assert (node.cores, node.l3_domains, node.socket) == ((), (), None)


def test_a_last_level_cache_of_level_2_is_no_l3_domain(tmp_path: Path) -> None:
    tree = build_tree(tmp_path, [FakeNode(0, "0-1", llc_kb=None)])
    for cpu in (0, 1):
        write_cache(tree, cpu, 2, 2, "Unified", 1024, "0-1")

    (node,) = read_topology(tree).nodes

    assert (node.llc_bytes, node.l3_domains) == (2**20, ())


def test_distance_classes_follow_slit_distances_where_sockets_are_unknown() -> None:
    pairs = [machines.four_nodes().distance_class(0, other) for other in range(4)]
    assert pairs == ["same_node", "same_socket", "other_socket", "other_socket"]
    # With one distance only nothing says that the nodes share a socket.
    assert machines.server().distance_class(0, 2) == "other_socket"


@pytest.mark.parametrize("name", NAMES or [NO_CAPTURE])
def test_nodes_of_a_captured_package_are_on_the_same_socket(name: str, tmp_path: Path) -> None:
    with tarfile.open(CAPTURES / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    expected = json.loads((CAPTURES / f"{name}.expected.json").read_text())
    topology = read_topology(tmp_path)
    with_cpus = [node for node in topology.nodes if node.cpus]

    for one in with_cpus:
        (home,) = (p["id"] for p in expected["packages"] if one.cpus[0] in p["cpus"])
        for other in with_cpus:
            (away,) = (p["id"] for p in expected["packages"] if other.cpus[0] in p["cpus"])
            near = "same_node" if one == other else "same_socket"
            wanted = near if home == away else "other_socket"
            assert topology.distance_class(one.id, other.id) == wanted
            # None of them has more than two sockets.
            assert topology.count_hops(one.id, other.id) == (home != away)


def test_hops_are_ranked_distances_between_more_than_two_sockets() -> None:
    machine = machines.eight_sockets()
    assert [machine.count_hops(0, n) for n in range(8)] == [0, 1, 1, 2, 1, 2, 2, 2]

    machine = machines.four_sockets_of_two()
    assert [machine.count_hops(2, n) for n in range(8)] == [1, 1, 0, 0, 1, 1, 2, 2]


def test_a_node_that_is_only_far_from_others_is_two_hops_from_them() -> None:
    """Ranks are those of the machine, so that they mean the same seen from every GPU."""
    nodes = tuple(
        machines.make_node(
            i, (i,), {j: 10 if i == j else 31 if 2 in (i, j) else 21 for j in range(3)}, socket=i
        )
        for i in range(3)
    )
    machine = Topology(nodes, ())

    assert [machine.count_hops(2, n) for n in range(3)] == [2, 2, 0]
    assert [machine.count_hops(0, n) for n in range(3)] == [0, 1, 2]


def test_two_sockets_are_one_hop_apart_whatever_their_distances() -> None:
    nodes = tuple(
        machines.make_node(
            i, (i,), {0: (10, 21, 31)[i], 1: 21 if i != 1 else 10, 2: 21}, socket=min(i, 1)
        )
        for i in range(3)
    )
    machine = Topology(nodes, ())

    assert [machine.distance(0, n) for n in range(3)] == [10, 21, 21]
    assert [machine.distance(n, 0) for n in range(3)] == [10, 21, 31]
    assert [machine.count_hops(n, 0) for n in range(3)] == [0, 1, 1]


def test_hops_are_one_where_sockets_or_distances_are_unknown() -> None:
    assert machines.four_nodes().count_hops(0, 2) == 1
    assert machines.with_memory_only_node().count_hops(0, 2) == 1
    silent = replace(
        machines.eight_sockets(),
        nodes=tuple(replace(n, distances={}) for n in machines.eight_sockets().nodes),
    )
    assert (silent.count_hops(0, 7), silent.distance(0, 7)) == (1, None)


def test_eight_gpu_server(tmp_path: Path) -> None:
    topology = read_topology(eight_gpu_server(tmp_path))

    assert [node.cpus for node in topology.nodes] == [
        (*range(48), *range(96, 144)),
        (*range(48, 96), *range(144, 192)),
    ]
    first = topology.nodes[0]
    assert (first.memory_bytes, first.memory_free_bytes) == (1024 * 2**30, 1000 * 2**30)
    assert first.distances == {0: 10, 1: 21}
    assert first.llc_bytes == 105 * 2**20
    assert [(gpu.index, gpu.numa_node) for gpu in topology.gpus] == [(i, i // 4) for i in range(8)]
    assert topology.source == str(tmp_path)
    assert topology.notes == ()


def test_nodes_without_cpus_without_memory_and_with_holes(tmp_path: Path) -> None:
    rows = ([10, 14, 23], [14, 10, 29], [23, 29, 10])
    nodes = [
        FakeNode(0, "0-3", distances=rows[0]),
        FakeNode(2, "", distances=rows[1]),
        FakeNode(5, "4-7", memory_kb=0, distances=rows[2]),
    ]

    topology = read_topology(build_tree(tmp_path, nodes))

    assert topology.cpu_nodes == (0, 5)
    assert topology.memory_nodes == (0, 2)
    assert [node.distances for node in topology.nodes] == [
        {0: 10, 2: 14, 5: 23},
        {0: 14, 2: 10, 5: 29},
        {0: 23, 2: 29, 5: 10},
    ]
    assert topology.nodes[1].llc_bytes is None


def test_node_directory_that_is_not_online_is_no_node(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1"), FakeNode(1, "2-3")], online="0-1", present="0-3")
    write(tmp_path, "sys/devices/system/node/online", "0")
    write(tmp_path, "sys/devices/system/node/node0/distance", "10")

    topology = read_topology(tmp_path)

    assert [node.id for node in topology.nodes] == [0]


def test_offline_cpus_belong_to_no_node(tmp_path: Path) -> None:
    nodes = [FakeNode(0, "0-3"), FakeNode(1, "4-7")]

    topology = read_topology(build_tree(tmp_path, nodes, online="0-2,4-6", present="0-7"))

    assert [node.cpus for node in topology.nodes] == [(0, 1, 2), (4, 5, 6)]
    assert topology.cpus_offline == (3, 7)


def test_kernel_without_numa_is_one_node(tmp_path: Path) -> None:
    gpus = [FakeGpu("0000:01:00.0", numa_node=None)]

    topology = read_topology(build_tree(tmp_path, None, gpus, online="0-2", meminfo_kb=2 * GIB_KB))

    (node,) = topology.nodes
    assert (node.id, node.cpus, node.distances) == (0, (0, 1, 2), {0: 10})
    assert (node.memory_bytes, node.memory_free_bytes) == (2 * 2**30, 2**30)
    assert topology.gpus[0].numa_node == -1
    assert len(topology.notes) == 1
    assert "no NUMA nodes" in topology.notes[0]


def test_gpus_are_display_devices_in_pci_order(tmp_path: Path) -> None:
    gpus = [
        FakeGpu("10000:01:00.0", numa_node=1),
        FakeGpu("2000:01:00.0", numa_node=1),  # before domain 10000, though not as text
        FakeGpu("0000:c1:00.0", numa_node=-1, vendor="0x1002", device="0x740f"),
        FakeGpu("0000:21:00.0", numa_node=0, pci_class="0x030000"),
        FakeGpu("0000:05:00.0", numa_node=0, pci_class="0x010802"),  # an NVMe disk
        FakeGpu("0000:05:00.1", numa_node=0, pci_class="0x120000"),  # an accelerator
    ]

    topology = read_topology(build_tree(tmp_path, [FakeNode(0, "0"), FakeNode(1, "1")], gpus))

    assert topology.gpus == (
        Gpu(0, "0000:21:00.0", "0x10de", "0x2330", 0),
        Gpu(1, "0000:c1:00.0", "0x1002", "0x740f", -1),
        Gpu(2, "2000:01:00.0", "0x10de", "0x2330", 1),
        Gpu(3, "10000:01:00.0", "0x10de", "0x2330", 1),
    )


def test_last_level_caches_are_summed_once_each(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-6", llc_kb=None)])
    for cpu in range(4):  # two dies of one node, an L3 each
        write_cache(tmp_path, cpu, 2, 2, "Unified", 1024, str(cpu))
        write_cache(tmp_path, cpu, 3, 3, "Unified", 16 * 1024, "0-1" if cpu < 2 else "2-3")
    for cpu in (4, 5):  # cores outside the L3, as on some hybrid processors
        write_cache(tmp_path, cpu, 1, 1, "Instruction", 64, str(cpu))
        write_cache(tmp_path, cpu, 2, 2, "Unified", 2 * 1024, "4-5")

    write_cache(tmp_path, 6, 0, 1, "Data", 32, "6")  # the other cache of that level holds no data
    write_cache(tmp_path, 6, 1, 1, "Instruction", 64, "6")

    assert read_topology(tmp_path).nodes[0].llc_bytes == (16 + 16 + 2) * 2**20 + 32 * 2**10


def test_llc_is_unknown_when_one_cache_is_not_reported(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1", llc_kb=None)])
    write_cache(tmp_path, 0, 3, 3, "Unified", 8 * 1024, "0")
    write_cache(tmp_path, 1, 3, 3, "Unified", 8 * 1024, "1")
    assert read_topology(tmp_path).nodes[0].llc_bytes == 16 * 2**20
    (tmp_path / "sys/devices/system/cpu/cpu1/cache/index3/size").unlink()
    assert read_topology(tmp_path).nodes[0].llc_bytes is None


OPTIONAL = [
    "sys/devices/system/node/online",
    "sys/devices/system/node/node1/cpulist",
    "sys/devices/system/node/node1/distance",
    "sys/devices/system/node/node1/meminfo",
    "sys/devices/system/cpu/online",
]


@pytest.mark.parametrize("path", OPTIONAL)
def test_missing_file_is_named_in_a_note_and_the_rest_is_read(path: str, tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1"), FakeNode(1, "2-3")])
    whole = read_topology(tmp_path)
    (tmp_path / path).unlink()

    topology = read_topology(tmp_path)

    assert topology.nodes[0] == whole.nodes[0]
    assert topology.node(1) is not None
    (note,) = topology.notes
    assert f"/{path} is missing" in note


def test_any_one_file_may_be_missing(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")], [FakeGpu("0000:01:00.0", numa_node=0)])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        content = path.read_bytes()
        path.unlink()
        assert [node.id for node in read_topology(tmp_path).nodes] == [0], path
        path.write_bytes(content)


def test_without_a_list_of_online_cpus_those_marked_offline_are_left_out(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")])
    (tmp_path / "sys/devices/system/cpu/online").unlink()
    write(tmp_path, "sys/devices/system/cpu/cpu1/online", "0")

    assert read_topology(tmp_path).nodes[0].cpus == (0,)


def test_trailing_nul_bytes_are_no_damage(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")])
    (tmp_path / "sys/devices/system/node/online").write_bytes(b"0\n\0\0")

    assert [node.id for node in read_topology(tmp_path).nodes] == [0]


DAMAGED = {
    "sys/devices/system/node/online": "0-",
    "sys/devices/system/cpu/online": "",
    "sys/devices/system/node/node0/cpulist": "0-99999999999",
    "sys/devices/system/node/node0/distance": "10 20 20",
    "sys/devices/system/node/node1/distance": "ten",
    "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: many kB",
    "sys/bus/pci/devices/0000:01:00.0/numa_node": "\x80",
}


@pytest.mark.parametrize("path", DAMAGED)
def test_damaged_file_is_one_line_that_names_it(path: str, tmp_path: Path) -> None:
    gpus = [FakeGpu("0000:01:00.0", numa_node=0)]
    build_tree(tmp_path, [FakeNode(0, "0-1"), FakeNode(1, "2-3")], gpus)
    assert len(read_topology(tmp_path).nodes) == 2
    write(tmp_path, path, DAMAGED[path])

    with pytest.raises(MachineError) as caught:
        read_topology(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / path} ")
    assert "\n" not in str(caught.value)


def test_file_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")])
    path = tmp_path / "sys/devices/system/node/online"
    path.unlink()
    path.mkdir()  # reading it fails for root too, unlike a file without permissions

    with pytest.raises(MachineError, match="online cannot be read"):
        read_topology(tmp_path)


def test_online_node_without_a_directory(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0-1")])
    write(tmp_path, "sys/devices/system/node/online", "0,3")
    write(tmp_path, "sys/devices/system/node/node0/distance", "10 20")

    with pytest.raises(MachineError, match="node3 does not exist"):
        read_topology(tmp_path)


def test_root_that_is_no_tree(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MachineError, match="has no sys/ directory"):
            read_topology(root)
    (tmp_path / "sys").mkdir()
    with pytest.raises(MachineError, match="no NUMA nodes and no CPUs"):
        read_topology(tmp_path)


# --- NVML


@pytest.mark.parametrize("as_bytes", [False, True])
def test_nvml_gpus_are_joined_to_their_nodes(as_bytes: bool, tmp_path: Path) -> None:
    root = eight_gpu_server(tmp_path)
    nvml = FakeNvml(eight_gpus(), as_bytes=as_bytes)

    topology = discover_topology(root, nvml)

    expected = [
        Gpu(i, gpu.address, "0x10de", "0x2330", i // 4, "NVIDIA H100 80GB HBM3", gpu.uuid)
        for i, gpu in enumerate(eight_gpus())
    ]
    assert list(topology.gpus) == expected
    assert topology.nodes == read_topology(root).nodes
    assert topology.source == "live"
    assert topology.notes == ()
    assert nvml.open == 0


def test_nvml_counts_only_its_own_gpus(tmp_path: Path) -> None:
    nvidia = FakeGpu("0000:c1:00.0", numa_node=0)
    build_tree(tmp_path, [FakeNode(0, "0")], [FakeGpu("0000:03:00.0", vendor="0x1a03"), nvidia])

    topology = discover_topology(tmp_path, FakeNvml([nvidia]))

    assert [(gpu.index, gpu.pci_address) for gpu in topology.gpus] == [(0, "0000:c1:00.0")]


@pytest.mark.parametrize(
    "address", ["0000:3b:00.0", "10000:00:1f.7", "abcd1234:ff:1f.7", "000a:00:00.0"]
)
def test_domain_of_any_width_finds_its_device(address: str, tmp_path: Path) -> None:
    gpu = FakeGpu(address, numa_node=1)
    build_tree(tmp_path, [FakeNode(0, "0"), FakeNode(1, "1")], [gpu])

    (found,) = discover_topology(tmp_path, FakeNvml([gpu])).gpus

    assert (found.pci_address, found.numa_node) == (address, 1)


def test_gpu_that_sysfs_does_not_show_has_an_unknown_node(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0")])

    topology = discover_topology(tmp_path, FakeNvml([FakeGpu("0000:3b:00.0")]))

    (gpu,) = topology.gpus
    assert (gpu.numa_node, gpu.vendor, gpu.device) == (-1, "0x10de", "0x2330")
    assert any("0000:3b:00.0" in note and "unknown" in note for note in topology.notes)


class NvmlWithAffinity(FakeNvml):
    """NVML that names what is close to its GPUs as masks of 64 bits. None: it does not answer."""

    def __init__(self, memory: int | None, cpus: int | None) -> None:
        super().__init__([FakeGpu("0000:3b:00.0")])
        self.memory = memory
        self.cpus = cpus

    def nvmlDeviceGetMemoryAffinity(self, _: FakeGpu, words: int, __: int) -> list[int]:  # noqa: N802
        return self._mask(self.memory, words)

    def nvmlDeviceGetCpuAffinity(self, _: FakeGpu, words: int) -> list[int]:  # noqa: N802
        return self._mask(self.cpus, words)

    def _mask(self, low: int | None, words: int) -> list[int]:
        if low is None:
            raise NvmlError("Insufficient Permissions")
        return [low, *[0] * (words - 1)]


@pytest.mark.parametrize(
    ("memory", "cpus", "node"),
    [
        (0b10, None, 1),
        (None, 0b1100, 1),
        (0b11, 0b0011, 0),  # memory of both nodes, but CPUs of one
        (0b11, 0b0110, -1),
        (0b100, 0, -1),  # a node that is not online
        (None, None, -1),
    ],
)
def test_a_node_that_the_kernel_does_not_know_is_nvmls(
    memory: int | None, cpus: int | None, node: int, tmp_path: Path
) -> None:
    nodes = [FakeNode(0, "0-1"), FakeNode(1, "2-3")]
    build_tree(tmp_path, nodes, [FakeGpu("0000:3b:00.0", numa_node=-1)])

    topology = discover_topology(tmp_path, NvmlWithAffinity(memory, cpus))

    assert [gpu.numa_node for gpu in topology.gpus] == [node]
    said = [note for note in topology.notes if f"NUMA node {node} is from NVML's affinity" in note]
    assert len(said) == (node >= 0)


def test_the_kernels_node_is_not_nvmls_to_change(tmp_path: Path) -> None:
    nodes = [FakeNode(0, "0-1"), FakeNode(1, "2-3")]
    build_tree(tmp_path, nodes, [FakeGpu("0000:3b:00.0", numa_node=0)])

    topology = discover_topology(tmp_path, NvmlWithAffinity(0b10, 0b1100))

    assert topology.gpus[0].numa_node == 0
    assert topology.notes == ()


def test_partitioned_gpus_are_marked(tmp_path: Path) -> None:
    class NvmlWithMig(FakeNvml):
        def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:  # noqa: N802
            if handle is self.gpus[0]:
                raise NvmlError("Not Supported")
            return [int(handle is self.gpus[2]), 0]

    topology = discover_topology(eight_gpu_server(tmp_path), NvmlWithMig(eight_gpus()))

    assert [gpu.index for gpu in topology.gpus if gpu.mig] == [2]


def test_no_driver_is_a_note(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0")], [FakeGpu("0000:3b:00.0")])
    nvml = FakeNvml(init_error="Driver Not Loaded")

    topology = discover_topology(tmp_path, nvml)

    assert topology.gpus == ()
    assert "Driver Not Loaded" in topology.notes[0]
    assert nvml.open == 0


def test_no_module_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tree(tmp_path, [FakeNode(0, "0")])
    monkeypatch.setitem(sys.modules, "pynvml", None)  # import then raises ModuleNotFoundError

    topology = discover_topology(tmp_path)

    assert topology.gpus == ()
    assert "pynvml" in topology.notes[0]


def test_driver_without_gpus_is_a_note(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0")])
    nvml = FakeNvml([])

    topology = discover_topology(tmp_path, nvml)

    assert topology.gpus == ()
    assert "finds none" in topology.notes[0]
    assert nvml.open == 0


def test_lost_gpu_is_a_note_and_the_others_keep_their_index(tmp_path: Path) -> None:
    nvml = FakeNvml(eight_gpus(), lost=[1])

    topology = discover_topology(eight_gpu_server(tmp_path), nvml)

    assert [gpu.index for gpu in topology.gpus] == [0, 2, 3, 4, 5, 6, 7]
    (note,) = topology.notes
    assert "GPU 1" in note
    assert "lost" in note
    assert nvml.open == 0


def test_nvml_is_shut_down_when_counting_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(eight_gpus())

    def fail() -> int:
        raise nvml.NVMLError("Unknown Error")

    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", fail)

    topology = discover_topology(eight_gpu_server(tmp_path), nvml)

    assert topology.gpus == ()
    assert "Unknown Error" in topology.notes[0]
    assert nvml.open == 0


# --- CUDA_VISIBLE_DEVICES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    root = eight_gpu_server(tmp_path_factory.mktemp("server"))
    return discover_topology(root, FakeNvml(eight_gpus()))


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("3", [3]),
        ("7,0, 2", [7, 0, 2]),
        ("0,9,1", [0]),
        ("0,-1,1", [0]),
        ("0,,1", [0]),
        ("0,x,1", [0]),
        ("1,1", []),
        ("GPU-5", [5]),
        ("GPU-5a000000-0000-4000-8000-000000000005,GPU-2", [5, 2]),
        ("GPU-5a000000-9,GPU-2", []),
        ("GPU-2,GPU-9,GPU-3", [2]),
        ("GPU-2,0", [2, 0]),
        ("GPU-", []),
        ("MIG-2", []),
    ],
)
def test_visible_gpus(value: str | None, indices: list[int], server: Topology) -> None:
    assert [gpu.index for gpu in select_visible_gpus(server, value)] == indices


def test_full_uuid_is_visible(server: Topology) -> None:
    uuids = [gpu.uuid for gpu in (server.gpus[6], server.gpus[1])]
    assert [gpu.index for gpu in select_visible_gpus(server, ",".join(map(str, uuids)))] == [6, 1]


def test_index_means_the_gpu_of_that_index_also_after_a_lost_one(tmp_path: Path) -> None:
    topology = discover_topology(eight_gpu_server(tmp_path), FakeNvml(eight_gpus(), lost=[1]))

    assert [gpu.index for gpu in select_visible_gpus(topology, "2,1,3")] == [2]


# --- CPU lists


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()),
        ("\n", ()),
        ("0\n", (0,)),
        ("0-3,8,10-11\n", (0, 1, 2, 3, 8, 10, 11)),
        ("8, 0-2,1", (0, 1, 2, 8)),
    ],
)
def test_parse_cpu_list(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == numbers


@pytest.mark.parametrize(
    "text", ["a", "0-", "-1", "3-1", "0,,1", ",", "0-1-2", "1.0", "1_0", "0-99999999999", "٣"]
)
def test_parse_cpu_list_refuses_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="not a number or a range"):
        parse_cpu_list(text)


@given(st.sets(st.integers(0, 2000)))
def test_formatting_and_parsing_are_inverse(cpus: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))


@given(st.sets(st.integers(0, 30)))
def test_formatted_ranges_are_as_long_as_they_can_be(cpus: set[int]) -> None:
    starts = sum(cpu - 1 not in cpus for cpu in cpus)
    text = format_cpu_list(cpus)
    assert len(text.split(",")) == (starts or 1)
    assert bool(text) == bool(cpus)


@given(st.text())
def test_parse_cpu_list_gives_a_list_or_a_value_error(text: str) -> None:
    try:
        numbers = parse_cpu_list(text)
    except ValueError:
        return
    assert parse_cpu_list(format_cpu_list(numbers)) == numbers


# --- the program


def test_program_prints_json(tmp_path: Path) -> None:
    root = eight_gpu_server(tmp_path)

    done = run_program("--json", "--root", str(root))

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == read_topology(root).to_dict()


def test_program_prints_this_machine() -> None:
    done = run_program("--json")

    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["source"] == "live"
    online = {cpu for node in found["nodes"] for cpu in node["cpus"]}
    assert os.sched_getaffinity(0) <= online
    assert sum(node["memory_bytes"] for node in found["nodes"]) > 0


def test_program_prints_a_table_of_plain_text(tmp_path: Path) -> None:
    nodes = [
        FakeNode(
            *(0, "0-3"),
            free_kb=None,
            distances=(10, 14, 23),
            llc_kb=None,
            socket=1,
            cores=("0,2", "1,3"),
        ),
        FakeNode(2, "", memory_kb=125_000_000, distances=(14, 10, 29)),
        FakeNode(5, "4-7", memory_kb=0, distances=(23, 29, 10)),
    ]
    gpus = [FakeGpu("0000:3b:00.0", numa_node=5), FakeGpu("0000:af:00.0", numa_node=-1)]
    build_tree(tmp_path, nodes, gpus, online="0-3,4-6", present="0-7")

    done = run_program("--root", str(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "1", "0-3", "4", "2", "17.2", "?", "?", "CPUs+memory"] in lines
    assert ["2", "-", "-", "0", "-", "128.0", "8.6", "-", "memory-only"] in lines
    assert ["5", "-", "4-6", "3", "?", "0.0", "0.0", "33.6", "no", "memory"] in lines
    assert ["2", "14", "10", "29"] in lines
    assert ["0", "-", "0000:3b:00.0", "0x10de", "0x2330", "5"] in lines
    assert ["1", "-", "0000:af:00.0", "0x10de", "0x2330", "unknown"] in lines
    assert ["CPUs", "offline:", "7"] in lines


def test_table_is_complete_for_long_cpu_lists_and_many_nodes(tmp_path: Path) -> None:
    nodes = [FakeNode(i, ",".join(map(str, range(i, 320, 32)))) for i in range(32)]
    build_tree(tmp_path, nodes)

    done = run_program("--root", str(tmp_path))

    assert "…" not in done.stdout
    above, _, _ = done.stdout.partition("Distances")
    assert set(range(320)) <= {int(number) for number in re.findall(r"[0-9]+", above)}
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["31", *["20"] * 31, "10"] in lines


def test_program_prints_notes(tmp_path: Path) -> None:
    build_tree(tmp_path, None, online="0-1")

    done = run_program("--root", str(tmp_path))

    assert done.returncode == 0
    assert "note: the kernel reports no NUMA nodes" in done.stdout
    assert "GPUs: none" in done.stdout


def test_program_prints_an_error_in_one_line(tmp_path: Path) -> None:
    done = run_program("--root", str(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path} has no sys/ directory")


def test_import_loads_neither_nvml_nor_rich() -> None:
    code = (
        "import sys, numa_bench.machine.topology\n"
        "print({'pynvml', 'rich', 'torch'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def test_what_the_driver_says_of_link_and_capability_is_kept(tmp_path: Path) -> None:
    build_tree(tmp_path, [FakeNode(0, "0")], [FakeGpu("0000:3b:00.0")])
    said = FakeGpuNvml(GpuState(capability=(7, 5), max_width=8))
    silent = FakeGpuNvml(GpuState(capability=None, max_width=None, memory_bytes=None))

    (gpu,) = discover_topology(tmp_path, said).gpus
    assert (gpu.compute_capability, gpu.link) == ((7, 5), (5, 8))
    assert gpu.memory_bytes == GpuState().memory_bytes
    assert Gpu.from_dict(json.loads(json.dumps(asdict(gpu)))) == gpu

    (gpu,) = discover_topology(tmp_path, silent).gpus
    assert (gpu.compute_capability, gpu.link, gpu.memory_bytes) == (None, None, None)
    assert Gpu.from_dict(json.loads(json.dumps(asdict(gpu)))) == gpu
