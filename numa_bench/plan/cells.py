"""Every distinct cell of a study: devices x placements x models, and the ids of its runs. Pure."""

from __future__ import annotations

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.validation import merge_test_settings
from numa_bench.config.workload_schema import TestConfig, ViTConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.contention import make_set_prefix, make_sets
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.placements import NODES_KEY, resolve_placements
from numa_bench.plan.resolve import resolve_test, resolve_vit
from numa_bench.records import Placement, ProfileSpec, RunSpec, VitSpec


def make_cells(
    experiment: ExperimentConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    touched: frozenset[int],
    profile: ProfileSpec,
) -> tuple[list[RunSpec], list[str]]:
    """Every distinct cell in the order of tables, and a warning for each duplicate left out."""
    if experiment.workload == "contention":
        specs, warnings = make_sets(experiment, topology, visible)
        if profile.kind != "none":
            warnings.append(f"sets of workers are not profiled: profiler.kind={profile.kind}")
    else:
        specs, warnings = _pipeline_specs(experiment, topology, visible, profile), []
    cells: dict[str, RunSpec] = {}
    for index, spec in specs:
        key = spec.cell_hash()
        if key not in cells:
            cells[key] = spec
        elif _same_model_as_touched(experiment, index, touched):
            warnings.append(f"experiment.vit_configs[{index}] equals another entry; measured once")
        else:
            _refuse_duplicate(experiment, spec)
    return list(cells.values()), warnings


def _pipeline_specs(
    experiment: ExperimentConfig,
    topology: Topology,
    visible: tuple[Gpu, ...],
    profile: ProfileSpec,
) -> list[tuple[int, RunSpec]]:
    """Every pipeline cell with the entry of vit_configs that it is for."""
    return [
        (index, _cell(experiment, topology, gpu, placement, vit, profile))
        for gpu in resolve_devices(experiment, topology, visible)
        for placement in resolve_placements(experiment.hardware, topology, gpu)
        for index, vit in enumerate(experiment.vit_configs)
    ]


def _cell(
    experiment: ExperimentConfig,
    topology: Topology,
    gpu: Gpu | None,
    placement: Placement,
    vit: ViTConfig,
    profile: ProfileSpec,
) -> RunSpec:
    test = merge_test_settings(experiment.test, vit)
    return RunSpec(
        study=experiment.name,
        run_id="",
        repeat=0,
        vit=resolve_vit(vit),
        test=resolve_test(test, topology, gpu=gpu is not None),
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
        f"gpu{spec.device.gpu_id}" if spec.device.kind == "cuda" else "cpu",
        f"numa{node}" if node is not None else "unbound",
    ]
    if placement.policy in ("bind", "preferred") and placement.memory_nodes not in ((node,), ()):
        parts.append("mem" + "-".join(map(str, placement.memory_nodes)))
    if placement.policy not in ("bind", "none"):
        parts.append(placement.policy)
    vit = spec.vit
    parts.append(f"vit{vit.patch_size}x{vit.depth}" + (f"x{vit.dim}" if vit.depth else ""))
    if spec.test.compile_model:
        parts.append("compiled")
    return "_".join(parts)


def _same_model_as_touched(
    experiment: ExperimentConfig, index: int, touched: frozenset[int]
) -> bool:
    """Whether this entry, or the earlier one that it equals, was changed on the command line."""
    model = _resolved_pair(experiment, index)
    twins = [i for i in range(index) if _resolved_pair(experiment, i) == model]
    return bool(twins) and bool(touched & {index, *twins})


def _resolved_pair(experiment: ExperimentConfig, index: int) -> tuple[VitSpec, TestConfig]:
    vit = experiment.vit_configs[index]
    return resolve_vit(vit), merge_test_settings(experiment.test, vit)


def _refuse_duplicate(experiment: ExperimentConfig, spec: RunSpec) -> None:
    """Raise ConfigError for the setting, models or nodes, that lists the same thing twice."""
    pairs = [_resolved_pair(experiment, i) for i in range(len(experiment.vit_configs))]
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
