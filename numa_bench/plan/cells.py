"""Every distinct cell of a study: devices x placements x models, and the ids of its runs. Pure."""

from __future__ import annotations

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.bandwidth import make_bandwidth_specs
from numa_bench.plan.commands import make_command_cells
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.placements import NODES_KEY, list_placement_warnings, resolve_placements
from numa_bench.plan.resolve import resolve_model
from numa_bench.plan.sets.contention import make_set_prefix, make_sets
from numa_bench.records import (
    BANDWIDTH,
    COMMAND,
    CONTENTION,
    NO_HOST_WORK,
    REGISTERED,
    WHOLE_NODE,
    Placement,
    ProfileSpec,
    RunSpec,
)


def make_cells(
    experiment: ExperimentConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    touched: frozenset[int],
    profile: ProfileSpec,
) -> tuple[list[RunSpec], list[str]]:
    """Every distinct cell in the order of tables, and warnings, as for each duplicate left out."""
    if experiment.workload == BANDWIDTH:
        specs, warnings = make_bandwidth_specs(experiment, topology, visible)
    elif experiment.workload == CONTENTION:
        specs, warnings = make_sets(experiment, topology, visible)
    elif experiment.workload == COMMAND:
        specs, warnings = make_command_cells(experiment, topology, visible)
    else:
        specs, warnings = _pipeline_specs(experiment, topology, visible, profile)
    cells: dict[str, RunSpec] = {}
    for index, gpu, spec in specs:
        key = spec.cell_hash()
        if key not in cells:
            cells[key] = spec
        elif _same_model_as_touched(experiment, index, touched, topology, gpu):
            warnings.append(f"experiment.vit_configs[{index}] equals another entry; measured once")
        else:
            _refuse_duplicate(experiment, spec, topology, gpu)
    return list(cells.values()), warnings


def _pipeline_specs(
    experiment: ExperimentConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    profile: ProfileSpec,
) -> tuple[list[tuple[int, Gpu | None, RunSpec]], list[str]]:
    """Every pipeline cell with the entry of vit_configs and the GPU that it is for; warnings."""
    specs: list[tuple[int, Gpu | None, RunSpec]] = []
    warnings: list[str] = []
    for gpu in resolve_devices(experiment, topology, visible):
        warnings += list_placement_warnings(experiment.hardware, topology, gpu)
        for placement in resolve_placements(experiment.hardware, topology, gpu):
            for index, vit in enumerate(experiment.vit_configs):
                cell = _cell(experiment, topology, gpu, placement, vit, profile)
                specs.append((index, gpu, cell))
    return specs, warnings


def _cell(
    experiment: ExperimentConfig,
    topology: Topology,
    gpu: Gpu | None,
    placement: Placement,
    vit: ViTConfig,
    profile: ProfileSpec,
) -> RunSpec:
    model, test = resolve_model(experiment, vit, topology, gpu)
    return RunSpec(
        study=experiment.name,
        run_id="",
        repeat=0,
        vit=model,
        test=test,
        device=make_device_spec(gpu),
        placement=placement,
        profile=profile,
    )


def make_run_id_prefix(spec: RunSpec) -> str:
    """The readable part of a run id, without the repeat and the hash."""
    if spec.members:
        return make_set_prefix(spec)
    placement = spec.placement
    node = placement.numa_node
    parts = [
        f"gpu{'+'.join(map(str, spec.device.gpu_ids))}" if spec.device.kind == "cuda" else "cpu",
        # What has no binding is unbound, or is waived because it could not have the one it names.
        f"numa{node}" if node is not None else "unbound" if placement.bound else placement.label,
    ]
    if placement.policy in ("bind", "preferred") and placement.memory_nodes not in ((node,), ()):
        parts.append("mem" + "-".join(map(str, placement.memory_nodes)))
    if placement.policy not in ("bind", "none"):
        parts.append(placement.policy)
    if placement.affinity != WHOLE_NODE:
        parts.append(placement.affinity)
    if spec.workload in (BANDWIDTH, COMMAND):
        return "_".join([*parts, spec.vit.name])
    vit = spec.vit
    if vit.is_custom:
        parts.append(vit.name)
    else:
        parts.append(f"vit{vit.patch_size}x{vit.depth}" + (f"x{vit.dim}" if vit.depth else ""))
    if spec.test.compile_model:
        parts.append("compiled")
    if spec.test.host_work != NO_HOST_WORK:
        parts.append(spec.test.host_work)
    if spec.test.host_memory != REGISTERED:
        parts.append(spec.test.host_memory)
    return "_".join(parts)


def _same_model_as_touched(
    experiment: ExperimentConfig,
    index: int,
    touched: frozenset[int],
    topology: Topology,
    gpu: Gpu | None,
) -> bool:
    """Whether this entry, or the earlier one that it equals, was changed on the command line."""
    models = [resolve_model(experiment, vit, topology, gpu) for vit in experiment.vit_configs]
    twins = [i for i in range(index) if models[i] == models[index]]
    return bool(twins) and bool(touched & {index, *twins})


def _refuse_duplicate(
    experiment: ExperimentConfig, spec: RunSpec, topology: Topology, gpu: Gpu | None
) -> None:
    """Raise ConfigError for the setting, models or nodes, that lists the same thing twice."""
    pairs = [resolve_model(experiment, vit, topology, gpu) for vit in experiment.vit_configs]
    if any(pair in pairs[:i] for i, pair in enumerate(pairs)):
        raise ConfigError(
            "experiment.vit_configs",
            spec.vit.name,
            "is listed twice with the same settings; remove one or rename it, or use repeats",
        )
    raise ConfigError(
        NODES_KEY,
        experiment.hardware.numa_nodes,
        f"plans {make_run_id_prefix(spec)} twice; list each node once, or use experiment.repeats",
    )
