"""Select the GPUs to measure on this machine, or the CPU. Pure."""

from __future__ import annotations

from numa_bench.config.schema import ExperimentConfig, HardwareConfig
from numa_bench.config.validation import parse_id_list
from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.records import DeviceSpec

GPU_KEY = "experiment.hardware.gpu_ids"


def resolve_devices(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> list[Gpu | None]:
    """The GPUs to measure, or [None] for the CPU. Those that are named may be invisible.

    Raises ConfigError for a GPU that is missing or partitioned by MIG.
    """
    hardware = experiment.hardware
    wanted = parse_id_list(GPU_KEY, hardware.gpu_ids, words=None)
    # gpu_ids=[] asks for no GPU, null for every visible one.
    if hardware.device == "cpu" or (hardware.device == "auto" and wanted == ()):
        if wanted:
            raise ConfigError(
                GPU_KEY, hardware.gpu_ids, "contradicts device=cpu; remove one of them"
            )
        return [None]
    if wanted is None:
        gpus = list(visible)
        if not gpus and hardware.device == "auto":
            return [None]
    else:
        gpus = [_find_gpu(item, hardware.gpu_ids, topology, visible) for item in wanted]
        if len(set(gpus)) < len(gpus):
            raise ConfigError(
                GPU_KEY, hardware.gpu_ids, "lists a GPU twice; for more runs use experiment.repeats"
            )
    if not gpus:
        raise ConfigError(
            "experiment.hardware.device", "cuda", f"{_what_gpus(topology, visible)}; use device=cpu"
        )
    gpus = gpus[: experiment.max_gpus]
    for gpu in gpus:
        if gpu.mig and gpu in visible:
            raise ConfigError(
                GPU_KEY,
                hardware.gpu_ids,
                f"MIG is enabled on GPU {gpu.index}, and MIG slices are not supported; choose "
                f"other GPUs, disable it (sudo nvidia-smi -i {gpu.index} -mig 0), or use "
                "experiment.hardware.device=cpu",
            )
    return list(gpus)


def make_device_spec(gpu: Gpu | None) -> DeviceSpec:
    """The device of a run on this GPU; None: on the CPU."""
    if gpu is None:
        return DeviceSpec("cpu")
    return DeviceSpec("cuda", gpu.index, gpu.name, gpu.uuid, gpu.numa_node)


def refuse_mig_slices(hardware: HardwareConfig, cuda_visible_devices: str | None) -> None:
    """Raise MachineError where CUDA_VISIBLE_DEVICES names a MIG slice and GPUs may be measured.

    Without this no GPU would be visible, and the CPU would be measured instead.
    """
    on_cpu = hardware.device == "cpu" or parse_id_list(GPU_KEY, hardware.gpu_ids, None) == ()
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
