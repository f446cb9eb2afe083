"""What is planned: the resolved settings of one run, as the worker reads them from spec.json.

Bytes, seconds and samples inside; a field's name carries its unit; MB is 1e6 bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

#: Version of spec.json, result.json, monitor.json and results.json. A change that an older reader
#: would misread increments it and adds a line to `SCHEMA_HISTORY`; a key that is only added does
#: not.
SCHEMA_VERSION = 1
#: What each version introduced. `upgrade.upgrade_record` reads every version listed here.
SCHEMA_HISTORY: dict[int, str] = {
    1: "first version; environment, monitor, profiler, profiler_capture, nsys_sqlite and "
    "torch_trace, cpu_affinity and cpus were added to its records later, then those of sets of "
    "workers",
}
#: Every process of a run carries this variable, whatever session it moves to, so that none of
#: them can outlive the run unnoticed. Its value: the starter's process number, "-", a random part.
RUN_TOKEN = "NUMA_BENCH_RUN"

#: NVTX ranges of a worker. Each batch has one for each of its stages.
WARMUP, TIMED_WINDOW, PROFILED_WINDOW = "warmup", "timed window", "profiled window"
STAGES = ("H2D", "compute", "D2H")
#: The stage before them, in runs with host work.
HOST_STAGE = "host"
#: Values of `TestSpec.host_work` and `host_memory` with which a run is what it was before these
#: settings existed.
NO_HOST_WORK, REGISTERED = "none", "registered"

#: The workload of most studies: batches through copies and a model.
PIPELINE = "pipeline"
#: Passes over host memory, and a set of workers that start together.
STREAM, CONTENTION = "stream", "contention"
#: Seconds that the workers of a set run together before the timed window; long enough for a few
#: hundred batches of a light model, after a warm-up that each did by itself.
REHEARSAL_S = 0.5
#: What a member of a set is there for: its throughput counts, or it only loads the machine.
MEASURED, BACKGROUND = "measured", "background"
#: Copies, or the host's memory, by size: no model.
BANDWIDTH = "bandwidth"

#: `Placement.affinity` of a run that may use all CPUs of its node.
WHOLE_NODE = "node"

JsonDict = dict[str, Any]
#: Fields of `VitSpec` that are sizes of a ViT.
VIT_SIZES = ("patch_size", "depth", "dim", "heads", "dim_head", "mlp_dim")


@dataclass(frozen=True)
class Placement:
    """Where one run's threads and memory go.

    `numa_node` None: CPUs not bound. `memory_nodes` empty: memory not bound. `cpus` are the CPUs
    the run may use when it is bound. `by_cpu`: numactl gets these CPUs instead of the node
    number. `label` is derived from the topology: local, same_socket or remote where CPUs and memory
    are equally far from the device, both where they are not (local/remote: CPUs local, memory
    remote), or interleave, unbound or unknown. `affinity` says which CPUs of the node these are:
    node (all), socket, exclusive, core-complex or physcpu, with "-no-smt" where one CPU per core
    was taken.
    """

    numa_node: int | None
    memory_nodes: tuple[int, ...]
    policy: str
    label: str
    cpus: tuple[int, ...] = ()
    by_cpu: bool = False
    affinity: str = WHOLE_NODE

    @property
    def bound(self) -> bool:
        return self.numa_node is not None or bool(self.memory_nodes)


@dataclass(frozen=True)
class VitSpec:
    """A resolved model. `depth` 0 is pure transfer, and the other sizes are then 0.

    A model that is no ViT has a `target` (the full name of what makes it) or a `timm` name, with
    keyword arguments `args`, and no sizes. `input_shape` is that of one sample, (C, H, W); None:
    (channels, image_size, image_size) of the test settings, as for every ViT.
    """

    name: str
    patch_size: int | None = None
    depth: int | None = None
    dim: int | None = None
    heads: int | None = None
    dim_head: int | None = None
    mlp_dim: int | None = None
    target: str | None = None
    timm: str | None = None
    args: JsonDict = field(default_factory=dict, hash=False)
    input_shape: tuple[int, int, int] | None = None

    @property
    def is_custom(self) -> bool:
        """Whether this is another model than a ViT of vit-pytorch."""
        return self.target is not None or self.timm is not None

    @property
    def is_no_op(self) -> bool:
        """Whether the model returns its input."""
        return self.depth == 0

    @property
    def origin(self) -> str:
        """What makes a model that is no ViT, as one would write it: pkg.make_net(width=8)."""
        args = [f"{name}={value!r}" for name, value in self.args.items()]
        if self.target is not None:
            return f"{self.target}({', '.join(args)})"
        return f"timm.create_model({', '.join([repr(self.timm), *args])})"

    def sizes(self) -> dict[str, int]:
        """The sizes of a ViT by name. Raises ValueError for any other model, which has none."""
        sizes = {name: getattr(self, name) for name in VIT_SIZES}
        if None in sizes.values():
            raise ValueError(f"{self.name} is not a ViT of vit-pytorch, so it has no such sizes")
        return sizes


@dataclass(frozen=True)
class TestSpec:
    """The resolved `test` settings of one run; the fields are those of `config.TestConfig`.

    `num_samples` 0: by time, at least `min_timed_s`.
    """

    __test__ = False  # not a pytest class

    num_samples: int
    min_timed_s: float
    time_budget_s: float
    batch_size: int
    image_size: int
    channels: int
    pipeline_depth: int
    memory_size_mb: int
    warmup_samples: int
    min_warmup_s: float
    warmup_budget_s: float
    precision: str
    attention: str
    cuda_graph: bool
    compile_model: bool
    compile_mode: str
    cpu_threads: int | None
    seed: int
    timeout_s: float
    host_work: str = NO_HOST_WORK
    host_threads: int | None = None
    host_memory: str = REGISTERED


#: Settings that a cell leaves out where they have their default.
_LATER_SETTINGS = ("host_work", "host_threads", "host_memory")


@dataclass(frozen=True)
class DeviceSpec:
    """The device of one run: `kind` is cuda or cpu; the rest is null on the CPU."""

    kind: str
    gpu_id: int | None = None
    gpu_name: str | None = None
    gpu_uuid: str | None = None
    gpu_numa_node: int | None = None


@dataclass(frozen=True)
class ProfileSpec:
    """What is recorded of one run: `kind` is nsys, torch or none.

    `capture` is "window" (only a window of at most `batches` batches and `budget_s` seconds, after
    the timed one) or "run" (everything, which the timed window then pays for).
    """

    kind: str = "none"
    capture: str = "window"
    batches: int = 0
    budget_s: float = 0.0


@dataclass(frozen=True)
class StreamSpec:
    """Passes over host memory: `operation` is read, write or copy, `buffer_mb` the size of each
    array, `threads` how many share a pass. `until_stopped`: it goes on until the other workers of
    its set are done."""

    operation: str
    buffer_mb: int
    threads: int
    until_stopped: bool = False


@dataclass(frozen=True)
class Member:
    """One worker of a set. `role` is MEASURED or BACKGROUND; `name` is unique in its set."""

    name: str
    role: str
    spec: RunSpec


@dataclass(frozen=True)
class BandwidthSpec:
    """What a bandwidth run measures: every direction at every size in every kind of memory.

    `sizes_bytes`: bytes of each array, multiples of 64. `directions` of a run on the CPU: read,
    write, copy, latency; `memory` there: pageable, huge. `rounds` samples of each point are taken,
    fewer if they take longer than `budget_s`.
    """

    sizes_bytes: tuple[int, ...]
    directions: tuple[str, ...]
    memory: tuple[str, ...]
    rounds: int
    budget_s: float

    def count_host_bytes(self) -> int:
        """Host memory that a run on the CPU allocates: two arrays of the largest size in every
        kind of memory, and one of each size for latencies."""
        chains = sum(self.sizes_bytes) if "latency" in self.directions else 0
        return len(self.memory) * (2 * max(self.sizes_bytes) + chains)


@dataclass(frozen=True)
class Expectation:
    """What is predicted of a run: what bounds it (link, host or compute), and the seconds that one
    batch takes."""

    bound: str
    batch_s: float


@dataclass(frozen=True)
class RunSpec:
    """Everything the worker needs to know.

    `workload` is what the worker does: one of `worker.workloads.WORKLOADS`, or CONTENTION for a set
    of workers, whose specs are in `members`. `scenario` names how a set was formed, `background`
    the load beside it ("none", "memory", "socket_link"); both are null without a set. `expected` is
    for the record and for estimates; the worker does not use it.
    """

    study: str
    run_id: str
    repeat: int
    vit: VitSpec
    test: TestSpec
    device: DeviceSpec
    placement: Placement
    profile: ProfileSpec = ProfileSpec()
    workload: str = PIPELINE
    stream: StreamSpec | None = None
    scenario: str | None = None
    background: str | None = None
    members: tuple[Member, ...] = ()
    bandwidth: BandwidthSpec | None = None
    expected: Expectation | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def measured(self) -> tuple[Member, ...]:
        """The members of a set whose throughput counts."""
        return tuple(member for member in self.members if member.role == MEASURED)

    def with_id(self, run_id: str, repeat: int) -> RunSpec:
        """One of the repeats of this cell; the members of a set get ids of their own."""
        members = tuple(
            replace(m, spec=m.spec.with_id(f"{run_id}.{m.name}", repeat)) for m in self.members
        )
        return replace(self, run_id=run_id, repeat=repeat, members=members)

    def cell(self) -> JsonDict:
        """The canonical spec of what is measured: the same for all repeats, and in any study.

        How it is profiled is not part of it: throughput comes from a window without profiler.
        """
        parts = ("vit", "test", "device", "placement")
        cell: JsonDict = {part: asdict(getattr(self, part)) for part in parts}
        # ViTs keep the hash that they had before there were other models.
        old = ("name", *VIT_SIZES)
        cell["vit"] = {k: value for k, value in cell["vit"].items() if k in old or value}
        # Settings of a later version leave the hash of older cells as it was.
        for name in _LATER_SETTINGS:
            if cell["test"][name] == TestSpec.__dataclass_fields__[name].default:
                del cell["test"][name]
        # Left out as below where it says nothing: cells of older studies keep their hash.
        if self.placement.affinity == WHOLE_NODE:
            del cell["placement"]["affinity"]
        if self.workload != PIPELINE:
            cell["workload"] = self.workload
        if self.stream is not None:
            cell["stream"] = asdict(self.stream)
        if self.members:
            cell["set"] = {
                "scenario": self.scenario,
                "background": self.background,
                "members": [[m.name, m.role, m.spec.cell()] for m in self.members],
            }
        if self.bandwidth is not None:
            cell["bandwidth"] = asdict(self.bandwidth)
        return cell

    def cell_hash(self) -> str:
        """SHA-256 of the canonical JSON of `cell`, in hexadecimal."""
        text = json.dumps(self.cell(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: JsonDict) -> RunSpec:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises ValueError when the version is not ours, TypeError or KeyError when fields are off.
        """
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"spec has schema_version {data['schema_version']}, "
                f"this program reads {SCHEMA_VERSION}"
            )
        placement = dict(data["placement"])
        placement["memory_nodes"] = tuple(placement["memory_nodes"])
        placement["cpus"] = tuple(placement["cpus"])
        vit = dict(data["vit"])
        if vit.get("input_shape") is not None:
            vit["input_shape"] = tuple(vit["input_shape"])
        parts = {
            "vit": VitSpec(**vit),
            "test": TestSpec(**data["test"]),
            "device": DeviceSpec(**data["device"]),
            "placement": Placement(**placement),
            "profile": ProfileSpec(**data.get("profile", {})),
            "stream": StreamSpec(**data["stream"]) if data.get("stream") else None,
            "members": tuple(
                Member(m["name"], m["role"], cls.from_dict(m["spec"]))
                for m in data.get("members", ())
            ),
            "bandwidth": _read_bandwidth(data.get("bandwidth")),
            "expected": Expectation(**data["expected"]) if data.get("expected") else None,
        }
        return cls(**{**data, **parts})


def list_processes(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The specs of all worker processes of these runs: those of its members for a set."""
    return [
        spec for run in runs for spec in ([m.spec for m in run.members] if run.members else [run])
    ]


def _read_bandwidth(data: JsonDict | None) -> BandwidthSpec | None:
    """A BandwidthSpec after a trip through JSON, which has lists only."""
    if data is None:
        return None
    lists = {name: tuple(data[name]) for name in ("sizes_bytes", "directions", "memory")}
    return BandwidthSpec(**{**data, **lists})
