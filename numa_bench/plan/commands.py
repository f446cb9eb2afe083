"""The cells of a command study: one for each device, placement and variant. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from numa_bench.config.command_parsing import make_command_specs
from numa_bench.config.schema import ExperimentConfig, HardwareConfig
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.placements import list_placement_warnings, resolve_placements
from numa_bench.plan.resolve import resolve_test
from numa_bench.records import COMMAND, ProfileSpec, RunSpec, VitSpec


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
    for gpu in resolve_devices(experiment, topology, visible):
        warnings += list_placement_warnings(hardware, topology, gpu)
        # Of these settings a command has its timeout only; the others keep their defaults.
        test = resolve_test(
            experiment.test,
            topology,
            gpu=gpu is not None,
            capability=gpu.compute_capability if gpu is not None else None,
        )
        placements = resolve_placements(hardware, topology, gpu)
        for placement, (name, command) in product(placements, commands.items()):
            cell = RunSpec(
                study=experiment.name,
                run_id="",
                repeat=0,
                vit=VitSpec(name, 0, 0, 0, 0, 0, 0),
                test=test,
                device=make_device_spec(gpu),
                placement=placement,
                # nsys would be outermost, and its report holds what the command prints.
                profile=ProfileSpec(),
                workload=COMMAND,
                command=command,
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
