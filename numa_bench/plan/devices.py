"""Select the GPUs to measure on this machine, or the CPU. Pure."""

from __future__ import annotations

from dataclasses import replace

from numa_bench.config.id_lists import parse_gpu_groups
from numa_bench.config.schema import ExperimentConfig, HardwareConfig
from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.records import DeviceSpec

GPU_KEY = "experiment.hardware.gpu_ids"


#: The GPUs that one run sees, in this order; empty on the CPU.
GpuGroup = tuple[Gpu, ...]


def resolve_devices(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> list[Gpu | None]:
    """The GPUs to measure, or [None] for the CPU. Those that are named may be invisible.

    Raises ConfigError for a GPU that is missing or partitioned by MIG, and for a run of several.
    """
    groups = resolve_gpu_groups(experiment, topology, visible)
    if any(len(group) > 1 for group in groups):
        raise ConfigError(
            GPU_KEY,
            experiment.hardware.gpu_ids,
            f"a run of a {experiment.workload} study has one GPU; use commas in place of +, or "
            "experiment=contention_study for GPUs that are measured together",
        )
    return [group[0] if group else None for group in groups]


def resolve_gpu_groups(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> list[GpuGroup]:
    """The GPUs of each run, or [()] for the CPU. Those that are named may be invisible.

    Raises ConfigError for a GPU that is missing or partitioned by MIG.
    """
    hardware = experiment.hardware
    wanted = parse_gpu_groups(GPU_KEY, hardware.gpu_ids)
    # gpu_ids=[] asks for no GPU, null for every visible one.
    if hardware.device == "cpu" or (hardware.device == "auto" and wanted == ()):
        if wanted:
            raise ConfigError(
                GPU_KEY, hardware.gpu_ids, "contradicts device=cpu; remove one of them"
            )
        return [()]
    if wanted is None:
        groups: list[GpuGroup] = [(gpu,) for gpu in visible]
        if not groups and hardware.device == "auto":
            return [()]
    else:
        groups = [
            tuple(_find_gpu(item, hardware.gpu_ids, topology, visible) for item in items)
            for items in wanted
        ]
        _refuse_repeated(groups, hardware.gpu_ids)
    if not groups:
        raise ConfigError(
            "experiment.hardware.device", "cuda", f"{_what_gpus(topology, visible)}; use device=cpu"
        )
    groups = _limit_gpus(groups, experiment.max_gpus)
    _refuse_mig(groups, hardware, visible)
    return groups


def _refuse_repeated(groups: list[GpuGroup], given: object) -> None:
    """Raise ConfigError for a GPU twice in one run, or two runs with the same GPUs."""
    alone = [frozenset(gpu.index for gpu in group) for group in groups]
    twice = any(len(set(group)) < len(group) for group in groups)
    if twice or len(set(alone)) < len(alone):
        raise ConfigError(GPU_KEY, given, "lists a GPU twice; for more runs use experiment.repeats")


def _limit_gpus(groups: list[GpuGroup], most: int | None) -> list[GpuGroup]:
    """The first groups that have `most` GPUs in all. Raises ConfigError where none is left."""
    kept = [
        group
        for i, group in enumerate(groups)
        if most is None or sum(map(len, groups[: i + 1])) <= most
    ]
    if not kept:
        raise ConfigError(
            "experiment.max_gpus",
            most,
            f"the first run alone sees {len(groups[0])} GPUs; use as many, or null",
        )
    return kept


def _refuse_mig(groups: list[GpuGroup], hardware: HardwareConfig, visible: GpuGroup) -> None:
    """Raise ConfigError for a visible GPU that is partitioned by MIG."""
    for gpu in (gpu for group in groups for gpu in group):
        if gpu.mig and gpu in visible:
            raise ConfigError(
                GPU_KEY,
                hardware.gpu_ids,
                f"MIG is enabled on GPU {gpu.index}, and MIG slices are not supported; choose "
                f"other GPUs, disable it (sudo nvidia-smi -i {gpu.index} -mig 0), or use "
                "experiment.hardware.device=cpu",
            )


def make_device_spec(gpu: Gpu | None) -> DeviceSpec:
    """The device of a run on this GPU; None: on the CPU."""
    if gpu is None:
        return DeviceSpec("cpu")
    return DeviceSpec("cuda", gpu.index, gpu.name, gpu.uuid, gpu.numa_node)


def make_group_spec(gpus: GpuGroup) -> DeviceSpec:
    """The device of a run that sees these GPUs; without any, on the CPU."""
    if not gpus:
        return DeviceSpec("cpu")
    return replace(make_device_spec(gpus[0]), others=tuple(map(make_device_spec, gpus[1:])))


def refuse_mig_slices(hardware: HardwareConfig, cuda_visible_devices: str | None) -> None:
    """Raise MachineError where CUDA_VISIBLE_DEVICES names a MIG slice and GPUs may be measured.

    Without this no GPU would be visible, and the CPU would be measured instead.
    """
    on_cpu = hardware.device == "cpu" or parse_gpu_groups(GPU_KEY, hardware.gpu_ids) == ()
    entries = [entry.strip() for entry in (cuda_visible_devices or "").split(",")]
    slices = [entry for entry in entries if entry.startswith("MIG-")]
    if slices and not on_cpu:
        raise MachineError(
            f"CUDA_VISIBLE_DEVICES names {slices[0]}, and MIG slices are not supported; name whole "
            "GPUs (an index or a GPU-... UUID), disable MIG (sudo nvidia-smi -mig 0), or use "
            "experiment.hardware.device=cpu"
        )


def _find_gpu(item: int | str, given: object, topology: Topology, visible: tuple[Gpu, ...]) -> Gpu:
    """The GPU with this index or UUID. One that is not visible is planned all the same: its runs
    are waived (`plan.allocation`)."""
    for gpu in (*visible, *topology.gpus):
        uuid = gpu.uuid or ""
        if gpu.index == item or (isinstance(item, str) and uuid and uuid.startswith(item)):
            return gpu
    fix = "use one of these, or null for all" if topology.gpus else "use null to measure the CPU"
    raise ConfigError(GPU_KEY, given, f"no GPU {item}: {_what_gpus(topology, visible)}; {fix}")


def _what_gpus(topology: Topology, visible: tuple[Gpu, ...]) -> str:
    if not topology.gpus:
        return "this machine has no usable GPU"
    have = "this machine has GPU " + ", ".join(str(gpu.index) for gpu in topology.gpus)
    hidden = len(topology.gpus) - len(visible)
    return have + (f", of which {hidden} are not granted to this process" if hidden else "")
