"""The cells of a bandwidth study: one process per device, CPU node and memory node. Pure."""

from __future__ import annotations

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.bandwidth import (
    CPU_DIRECTIONS,
    GPU_DIRECTIONS,
    BandwidthConfig,
    read_list,
)
from numa_bench.config.schemas.workload import HOST_MEMORIES
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.placements import list_placement_warnings, resolve_placements
from numa_bench.plan.resolve import resolve_test
from numa_bench.records import BANDWIDTH, BandwidthSpec, ProfileSpec, RunSpec, VitSpec

#: In place of a model: its name in tables, and no size.
NO_MODEL = VitSpec(BANDWIDTH, 0, 0, 0, 0, 0, 0)
_KEY = "experiment.bandwidth"
_GPU_SIZES = (4 << 10, 1 << 30)
_CPU_SIZES = (64 << 10, 256 << 20)
_MOST_CPU_BYTES = 4 << 30


def make_bandwidth_specs(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> tuple[list[tuple[int, Gpu | None, RunSpec]], list[str]]:
    """Every cell with its GPU in the order of tables, and warnings about its placements.

    The number of each cell's model is 0, as there is none. Raises ConfigError for directions that a
    device does not have.
    """
    specs: list[tuple[int, Gpu | None, RunSpec]] = []
    warnings: list[str] = []
    for gpu in resolve_devices(experiment, topology, visible):
        warnings += list_placement_warnings(experiment.hardware, topology, gpu)
        bandwidth = resolve_bandwidth(experiment.bandwidth, topology, gpu=gpu is not None)
        test = resolve_test(
            experiment.test,
            topology,
            gpu=gpu is not None,
            # A precision that the GPU lacks would waive copies, which have none.
            capability=gpu.compute_capability if gpu is not None else None,
        )
        for placement in resolve_placements(experiment.hardware, topology, gpu):
            cell = RunSpec(
                study=experiment.name,
                run_id="",
                repeat=0,
                vit=NO_MODEL,
                test=test,
                device=make_device_spec(gpu),
                placement=placement,
                # Copies have no profiled window: their times come from events.
                profile=ProfileSpec(),
                workload=BANDWIDTH,
                bandwidth=bandwidth,
            )
            specs.append((0, gpu, cell))
    return specs, warnings


def resolve_bandwidth(config: BandwidthConfig, topology: Topology, *, gpu: bool) -> BandwidthSpec:
    """Fill in what is auto for a GPU or the CPU. Raises ConfigError."""
    words = GPU_DIRECTIONS if gpu else CPU_DIRECTIONS
    directions = read_list(f"{_KEY}.directions", config.directions) or words
    for word in directions:
        if word not in words:
            raise ConfigError(
                f"{_KEY}.directions",
                word,
                f"has no meaning {'with a GPU' if gpu else 'on the CPU'}; use {', '.join(words)}",
            )
    sizes = read_list(f"{_KEY}.sizes", config.sizes)
    if sizes is None:
        sizes = list_powers(*_GPU_SIZES) if gpu else list_powers(*_cpu_range(topology))
    memory = read_list(f"{_KEY}.memory", config.memory)
    kinds = (
        _gpu_memory(memory or HOST_MEMORIES, config.huge_pages)
        if gpu
        else _cpu_memory(memory, config)
    )
    return BandwidthSpec(
        sizes_bytes=tuple(sorted(sizes)),
        directions=tuple(directions),
        memory=kinds,
        rounds=config.rounds,
        budget_s=config.budget_s,
    )


def list_powers(least: int, most: int) -> tuple[int, ...]:
    """`least`, four times as much, and so on up to `most`."""
    sizes = [least]
    while sizes[-1] * 4 <= most:
        sizes.append(sizes[-1] * 4)
    return tuple(sizes)


def _cpu_range(topology: Topology) -> tuple[int, int]:
    """Up to a size of which a cache holds a quarter at most."""
    least, most = _CPU_SIZES
    cache = max((node.llc_bytes or 0 for node in topology.nodes), default=0)
    while most < min(4 * cache, _MOST_CPU_BYTES):
        most *= 4
    return least, most


def _gpu_memory(kinds: tuple[str, ...], huge_pages: str) -> tuple[str, ...]:
    """Kinds of memory with small pages, huge pages or both; the driver decides on pinned memory."""
    found: list[str] = []
    for kind in kinds:
        if kind == "pinned" or huge_pages != "only":
            found.append(kind)
        if kind != "pinned" and huge_pages != "never":
            found.append(f"{kind}_huge")
    return tuple(found)


def _cpu_memory(memory: tuple[str, ...] | None, config: BandwidthConfig) -> tuple[str, ...]:
    if memory is not None and memory != ("pageable",):
        raise ConfigError(
            f"{_KEY}.memory", config.memory, "on the CPU there is pageable memory only; use auto"
        )
    return {"both": ("pageable", "huge"), "only": ("huge",), "never": ("pageable",)}[
        config.huge_pages
    ]


def estimate_bandwidth_s(run: RunSpec) -> float:
    """Upper estimate of one run's measurement in seconds: filling buffers, then all rounds."""
    spec = run.bandwidth
    assert spec is not None
    copies = 2 * len(spec.memory) * max(spec.sizes_bytes)
    # Touching, filling and page-locking, all of the order of 1 GB/s.
    return copies / 1e9 + spec.budget_s
