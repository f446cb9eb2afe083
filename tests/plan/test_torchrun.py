"""Affinity modes choose what torchrun's --numa-binding chooses for a rank on its GPU's node.

torch reads /sys itself; its readers are replaced by those of a made-up machine.
"""

from __future__ import annotations

from typing import Any

import pytest

from numa_bench.config.schema import AFFINITIES, HardwareConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.placements import resolve_placements
from tests.machines import make_gpu, make_smt_node, server

pytestmark = pytest.mark.slow  # imports torch


def uneven() -> Topology:
    """Two sockets of two nodes of seven cores, three cores to a cache; GPUs on nodes 0, 0, 0, 3."""
    nodes = tuple(
        make_smt_node(i, 14 * i, 7, 3, {j: 10 if i == j else 20 for j in range(4)}, socket=i // 2)
        for i in range(4)
    )
    return Topology(nodes, tuple(make_gpu(i, node) for i, node in enumerate((0, 0, 0, 3))))


@pytest.fixture
def binding() -> Any:
    """torch's module of --numa-binding, of torch 2.9 and later."""
    module: Any = pytest.importorskip("torch.numa.binding", exc_type=ImportError)
    if "core-complex" not in {mode.value for mode in module.AffinityMode}:
        pytest.skip("this torch has other modes")
    return module


def group_of(groups: list[tuple[int, ...]], cpu: int) -> set[int]:
    return next(set(group) for group in groups if cpu in group)


@pytest.mark.parametrize("machine", [uneven(), server()], ids=["uneven", "server"])
@pytest.mark.parametrize("mode", AFFINITIES)
def test_modes_are_those_of_torchrun(
    binding: Any, monkeypatch: pytest.MonkeyPatch, machine: Topology, mode: str
) -> None:
    nodes = {node.id: node for node in machine.nodes}
    cores = [core for node in machine.nodes for core in node.cores]
    caches = [cpus for node in machine.nodes for cpus in node.l3_domains]
    sockets = {cpu: node.socket for node in machine.nodes for cpu in node.cpus}
    readers = {
        "_get_gpu_count": lambda: len(machine.gpus),
        "_get_numa_node_index_for_gpu_index": lambda *, gpu_index: (
            machine.gpus[gpu_index].numa_node
        ),
        "_get_allowed_logical_cpu_indices_for_numa_node": lambda *, numa_node_index: set(
            nodes[numa_node_index].cpus
        ),
        "_get_logical_cpu_indices_sharing_same_physical_core_as": lambda *, logical_cpu_index: (
            group_of(cores, logical_cpu_index)
        ),
        "_get_logical_cpus_sharing_same_max_level_cache_as": lambda *, logical_cpu_index: group_of(
            caches, logical_cpu_index
        ),
        "_get_socket_index_for_cpu": lambda *, cpu_index: sockets[cpu_index],
        "_get_numa_node_indices_for_socket_index": lambda *, socket_index: {
            node.id for node in machine.nodes if node.socket == socket_index
        },
    }
    for name, reader in readers.items():
        if not hasattr(binding, name):
            pytest.skip(f"this torch has no {name}")
        monkeypatch.setattr(binding, name, reader)
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    hardware = HardwareConfig(numa_nodes="local", memory_nodes="same", cpu_affinity=mode)

    for gpu in machine.gpus:
        wanted = binding._get_logical_cpus_to_bind_to(gpu_index=gpu.index, numa_options=options)
        (placement,) = resolve_placements(hardware, machine, gpu)
        assert set(placement.cpus) == wanted
