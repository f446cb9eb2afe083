"""The cells of a command study: one for each device, placement and variant. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from numa_bench.config.command_parsing import make_command_specs
from numa_bench.config.id_lists import MEMORY_WORDS, NODE_WORDS, RELATIVE_WORDS, parse_id_list
from numa_bench.config.schema import ExperimentConfig, HardwareConfig
from numa_bench.config.validation import parse_affinities
from numa_bench.errors import ConfigError
from numa_bench.labels import MIXED
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import GpuGroup, make_group_spec, resolve_gpu_groups
from numa_bench.plan.distance import find_common_home
from numa_bench.plan.node_words import MEMORY_KEY
from numa_bench.plan.placements import (
    NODES_KEY,
    list_placement_warnings,
    resolve_placements,
)
from numa_bench.plan.resolve import resolve_test
from numa_bench.records import COMMAND, Placement, ProfileSpec, RunSpec, VitSpec

#: A placement, and why its runs are waived without being tried (None: they are not).
_Waivable = tuple[Placement, str | None]
#: CPU affinities that divide a node's CPUs among its GPUs.
_OF_ONE_GPU = ("exclusive", "core-complex")


def make_command_cells(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> tuple[list[tuple[int, Gpu | None, RunSpec]], list[str]]:
    """Every cell with its GPU in the order of tables, and warnings about its placements.

    The number of each cell's model is 0, as there is none.
    """
    commands = make_command_specs(experiment.command)
    hardware = choose_placements(experiment.hardware, topology)
    specs: list[tuple[int, Gpu | None, RunSpec]] = []
    warnings: list[str] = []
    for gpus in resolve_gpu_groups(experiment, topology, visible):
        gpu = gpus[0] if gpus else None
        # Of these settings a command has its timeout only; the others keep their defaults.
        test = resolve_test(
            experiment.test,
            topology,
            gpu=gpu is not None,
            capability=gpu.compute_capability if gpu is not None else None,
        )
        placements, left_out = place_group(hardware, topology, gpus)
        warnings += left_out
        for (placement, waived), (name, command) in product(placements, commands.items()):
            cell = RunSpec(
                study=experiment.name,
                run_id="",
                repeat=0,
                vit=VitSpec(name, 0, 0, 0, 0, 0, 0),
                test=test,
                device=make_group_spec(gpus),
                placement=placement,
                # nsys would be outermost, and its report holds what the command prints.
                profile=ProfileSpec(),
                workload=COMMAND,
                command=command,
                waived=waived,
            )
            specs.append((0, gpu, cell))
    return specs, warnings


def choose_placements(hardware: HardwareConfig, topology: Topology) -> HardwareConfig:
    """The placements as set; by default local, remote where there is another node, and unbound.

    Without a binding is how most programs are run today, so that it belongs to the answer.
    """
    if any(
        value is not None
        for value in (hardware.numa_nodes, hardware.memory_nodes, hardware.physcpu)
    ):
        return hardware
    away = ["remote"] if len(topology.memory_nodes) > 1 else []
    return replace(hardware, numa_nodes=["local", *away, "unbound"])


def place_group(
    hardware: HardwareConfig, topology: Topology, gpus: GpuGroup
) -> tuple[list[_Waivable], list[str]]:
    """The placements of a run that sees these GPUs, and warnings.

    `local` is the GPUs' common node. Where they have none, placements that are relative to it are
    waived, and others are at several distances.
    """
    _refuse_shares(hardware, gpus)
    gpu = gpus[0] if gpus else None
    if len(gpus) < 2 or find_common_home(topology, gpus) is not None:
        found = resolve_placements(hardware, topology, gpu)
        return [(p, None) for p in found], list_placement_warnings(hardware, topology, gpu)
    memory = parse_id_list(MEMORY_KEY, hardware.memory_nodes, MEMORY_WORDS) or ()
    if any(word in RELATIVE_WORDS for word in memory):
        raise ConfigError(
            MEMORY_KEY, hardware.memory_nodes, f"{_name_homes(gpus)}; use node numbers"
        )
    words = parse_id_list(NODES_KEY, hardware.numa_nodes, NODE_WORDS) or ()
    waived = [_waive(str(word), gpus) for word in words if word in RELATIVE_WORDS]
    rest = [word for word in words if word not in RELATIVE_WORDS]
    if words and not rest:
        return waived, []
    others = resolve_placements(
        replace(hardware, numa_nodes=rest or None), topology, replace(gpus[0], numa_node=-1)
    )
    return [*waived, *((_mix_distances(p), None) for p in others)], []


def _refuse_shares(hardware: HardwareConfig, gpus: GpuGroup) -> None:
    """Raise ConfigError for an affinity that gives each GPU CPUs of its own."""
    for mode in parse_affinities(hardware.cpu_affinity) if len(gpus) > 1 else ():
        if mode in _OF_ONE_GPU:
            raise ConfigError(
                "experiment.hardware.cpu_affinity",
                mode,
                "gives each GPU CPUs of its own, and a run here sees several; use node or socket",
            )


def _waive(word: str, gpus: GpuGroup) -> _Waivable:
    """A placement that cannot be, with the reason."""
    label = "remote" if word == "other_socket" else word
    reason = (
        f"{_name_homes(gpus)}, so that nothing is {word} to all; bind each rank by itself: compare "
        "variants such as torchrun --numa-binding=node or vllm --numa-bind under unbound"
    )
    return Placement(None, (), "none", label), reason


def _name_homes(gpus: GpuGroup) -> str:
    nodes = ", ".join(f"{gpu.index} on node {gpu.numa_node}" for gpu in gpus)
    return f"GPUs {'+'.join(str(gpu.index) for gpu in gpus)} have no common node ({nodes})"


def _mix_distances(placement: Placement) -> Placement:
    """A bound placement at several distances from the GPUs of its run."""
    return replace(placement, label=MIXED) if placement.bound else placement
