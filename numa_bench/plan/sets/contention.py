"""The sets of a contention study: which workers start together, and where each is placed. Pure.

`far` is the other socket, or on a machine with one socket another of its nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from numa_bench.config.schema import ExperimentConfig
from numa_bench.config.schemas.contention import KEY, NO_LOAD, ContentionConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import make_device_spec, resolve_devices
from numa_bench.plan.distance import list_cpu_nodes
from numa_bench.plan.placements import resolve_placements
from numa_bench.plan.resolve import default_pool_mb, resolve_model, resolve_test
from numa_bench.plan.sets.background import Load, make_loads, reserve_cpus
from numa_bench.plan.sets.scenarios import Formed, Spot, form_scenarios
from numa_bench.records import (
    BACKGROUND,
    CONTENTION,
    MEASURED,
    STREAM,
    DeviceSpec,
    Member,
    Placement,
    RunSpec,
    StreamSpec,
    TestSpec,
    VitSpec,
)

#: Most workers on a node where their number is left open: four streams fill the memory of most
#: nodes, and a set of them still starts within seconds.
MOST_WORKERS = 4


@dataclass(frozen=True)
class _Work:
    """What the measured workers of a set do. `index` is the entry of vit_configs it is for."""

    index: int
    vit: VitSpec
    test: TestSpec
    stream: StreamSpec | None = None


def make_sets(
    experiment: ExperimentConfig, topology: Topology, visible: tuple[Gpu, ...]
) -> tuple[list[tuple[int, Gpu | None, RunSpec]], list[str]]:
    """Every set as (entry of vit_configs, its first GPU, spec) in the order of tables; warnings.

    A warning names what this machine cannot form. Raises ConfigError when nothing remains.
    """
    contention = experiment.contention
    devices = resolve_devices(experiment, topology, visible)
    reserved = reserve_cpus(contention, topology)
    workers = _workers_per_node(contention, topology, reserved)
    formed, warnings = form_scenarios(contention.scenarios, topology, devices, workers)
    loads, left_out = make_loads(contention, topology, reserved)
    maker = _SetMaker(experiment, topology, reserved, workers)
    sets = [
        (work.index, scenario.spots[0].gpu, maker.make_set(scenario, work, name, load))
        for scenario in formed
        for work in maker.list_work(devices[0])
        for name, load in loads.items()
    ]
    if not sets:
        raise ConfigError(
            f"{KEY}.scenarios",
            contention.scenarios,
            f"this machine can form none of them: {'; '.join([*warnings, *left_out])}",
        )
    if devices == [None]:
        warnings.append("without a GPU the workers stream memory; vit_configs are not used")
    return sets, [*warnings, *left_out]


def make_set_prefix(spec: RunSpec) -> str:
    """The readable part of a set's run id, without the repeat and the hash."""
    measured = [member.spec for member in spec.measured]
    first = measured[0]
    if len(measured) > 1:
        who = f"{len(measured)}{'gpus' if first.device.kind == 'cuda' else 'workers'}"
    elif first.device.kind == "cuda":
        who = f"gpu{first.device.gpu_id}"
    else:
        who = f"numa{first.placement.numa_node}"
    parts = [(spec.scenario or "").replace("_", "-"), who]
    if spec.background != NO_LOAD:
        parts.append(f"{spec.background}-load".replace("_", "-"))
    vit = spec.vit
    if first.stream is not None:
        parts.append(first.stream.operation)
    else:
        parts.append(f"vit{vit.patch_size}x{vit.depth}" + (f"x{vit.dim}" if vit.depth else ""))
    if spec.test.compile_model:
        parts.append("compiled")
    return "_".join(parts)


def _workers_per_node(
    contention: ContentionConfig, topology: Topology, reserved: dict[int, tuple[int, ...]]
) -> int:
    free = {
        node.id: len(node.cpus) - len(reserved.get(node.id, ()))
        for node in topology.nodes
        if node.id in list_cpu_nodes(topology)
    }
    fewest = min(free.values())
    wanted = contention.workers_per_node
    if wanted is None:
        return max(1, min(MOST_WORKERS, fewest))
    if wanted > fewest:
        node = min(free, key=lambda n: free[n])
        raise ConfigError(
            f"{KEY}.workers_per_node",
            wanted,
            f"node {node} has {fewest} CPUs for them; use {fewest} at most",
        )
    return wanted


class _SetMaker:
    """Makes specs from scenarios, for one study on one machine."""

    def __init__(
        self,
        experiment: ExperimentConfig,
        topology: Topology,
        reserved: dict[int, tuple[int, ...]],
        workers_per_node: int,
    ) -> None:
        self.experiment = experiment
        self.topology = topology
        self.reserved = reserved
        self.workers_per_node = workers_per_node
        wanted = experiment.contention.buffer_mb
        self.buffer_mb = default_pool_mb(topology) if wanted is None else wanted

    def list_work(self, gpu: Gpu | None) -> Iterator[_Work]:
        """What each set is measured with: every model, or without a GPU one kind of memory stream.

        `gpu` is the first one; the GPUs of a host are taken to be alike.
        """
        experiment, window_s = self.experiment, self.experiment.contention.window_s
        if gpu is None:
            operation = experiment.contention.operation
            test = resolve_test(experiment.test, self.topology, gpu=False)
            stream = StreamSpec(operation, self.buffer_mb, 0)
            vit = VitSpec(f"memory {operation}", 0, 0, 0, 0, 0, 0)
            yield _Work(0, vit, replace(test, num_samples=0, min_timed_s=window_s), stream)
            return
        for index, config in enumerate(experiment.vit_configs):
            vit, test = resolve_model(experiment, config, self.topology, gpu)
            timed = replace(test, num_samples=0, min_timed_s=window_s)
            yield _Work(index, vit, timed)

    def make_set(self, formed: Formed, work: _Work, background: str, loads: list[Load]) -> RunSpec:
        """One set: its measured workers, and those that load the machine beside them."""
        members = [self._measured(spot, work) for spot in formed.spots]
        used = {node for member in members for node in member.spec.placement.memory_nodes}
        for load in loads:
            if load.memory_node in used or load.always:
                members.append(self._background(load, work))
        specs = [member.spec for member in members if member.role == MEASURED]
        return self._spec(
            work,
            _common_device(specs),
            _common_placement(specs),
            workload=CONTENTION,
            stream=None,
            scenario=formed.scenario,
            background=background,
            members=tuple(members),
        )

    def _measured(self, spot: Spot, work: _Work) -> Member:
        placement = self._place(spot.gpu, spot.cpu_node, spot.memory_node)
        if work.stream is None:
            assert spot.gpu is not None
            spec = self._spec(work, make_device_spec(spot.gpu), placement)
            return Member(f"gpu{spot.gpu.index}", MEASURED, spec)
        # Disjoint CPUs: workers must not take turns on one.
        size = len(placement.cpus) // self.workers_per_node
        cpus = placement.cpus[spot.share * size : (spot.share + 1) * size]
        own = replace(placement, cpus=cpus, by_cpu=True)
        stream = replace(work.stream, threads=size)
        name = f"node{spot.cpu_node}-{spot.share}"
        return Member(name, MEASURED, self._stream(work, own, stream))

    def _background(self, load: Load, work: _Work) -> Member:
        contention = self.experiment.contention
        bare = self._resolve(None, load.cpu_node, load.memory_node)
        placement = replace(bare, cpus=load.cpus, by_cpu=True)
        stream = StreamSpec(
            contention.background_operation, self.buffer_mb, len(load.cpus), until_stopped=True
        )
        name = f"load-node{load.cpu_node}-memory{load.memory_node}"
        return Member(name, BACKGROUND, self._stream(work, placement, stream))

    def _stream(self, work: _Work, placement: Placement, stream: StreamSpec) -> RunSpec:
        vit = VitSpec(f"memory {stream.operation}", 0, 0, 0, 0, 0, 0)
        return self._spec(
            replace(work, vit=vit), DeviceSpec("cpu"), placement, workload=STREAM, stream=stream
        )

    def _place(self, gpu: Gpu | None, cpu_node: int, memory_node: int) -> Placement:
        placement = self._resolve(gpu, cpu_node, memory_node)
        kept = tuple(c for c in placement.cpus if c not in self.reserved.get(cpu_node, ()))
        if kept == placement.cpus:
            return placement
        return replace(placement, cpus=kept, by_cpu=True)

    def _resolve(self, gpu: Gpu | None, cpu_node: int, memory_node: int) -> Placement:
        hardware = replace(
            self.experiment.hardware, numa_nodes=[cpu_node], memory_nodes=[memory_node]
        )
        (placement,) = resolve_placements(hardware, self.topology, gpu)
        return placement

    def _spec(
        self, work: _Work, device: DeviceSpec, placement: Placement, **more: object
    ) -> RunSpec:
        spec = RunSpec(
            study=self.experiment.name,
            run_id="",
            repeat=0,
            vit=work.vit,
            test=work.test,
            device=device,
            placement=placement,
        )
        return replace(spec, **more)  # type: ignore[arg-type]


def _common_device(specs: list[RunSpec]) -> DeviceSpec:
    """The device of one worker; of several, what they have in common."""
    devices = [spec.device for spec in specs]
    if len(devices) == 1:
        return devices[0]
    names = {device.gpu_name for device in devices}
    return DeviceSpec(devices[0].kind, gpu_name=names.pop() if len(names) == 1 else None)


def _common_placement(specs: list[RunSpec]) -> Placement:
    """The placement of one worker; of several, their policy and the label that they share."""
    placements = [spec.placement for spec in specs]
    if len(placements) == 1:
        return placements[0]
    labels = {placement.label for placement in placements}
    label = labels.pop() if len(labels) == 1 else "mixed"
    return Placement(None, (), placements[0].policy, label)
