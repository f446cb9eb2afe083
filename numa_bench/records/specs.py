"""What is planned: the resolved settings of one run, as the worker reads them from spec.json.

Bytes, seconds and samples inside; a field's name carries its unit; MB is 1e6 bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from numa_bench.records.command_spec import CommandSpec, read_command
from numa_bench.records.run_parts import (
    VIT_SIZES,
    BandwidthSpec,
    DeviceSpec,
    Distances,
    Expectation,
    JsonDict,
    ProfileSpec,
    StreamSpec,
    TestSpec,
    VitSpec,
    read_device,
)

#: Version of spec.json, result.json, monitor.json and results.json. A change that an older reader
#: would misread increments it and adds a line to `SCHEMA_HISTORY`; a key that is only added does
#: not.
SCHEMA_VERSION = 1
#: What each version introduced. `upgrade.upgrade_record` reads every version listed here.
SCHEMA_HISTORY: dict[int, str] = {
    1: "first version; environment, monitor, profiler, profiler_capture, nsys_sqlite and "
    "torch_trace, cpu_affinity and cpus were added to its records later, then those of sets of "
    "workers, then distances and their classes, then lock_wait_s and shared_host, then sweep_jobs "
    "and sweep_overrides, then gpu_ids",
}
#: Every process of a run carries this variable, whatever session it moves to, so that none of
#: them can outlive the run unnoticed. Its value: the starter's process number, "-", a random part.
RUN_TOKEN = "NUMA_BENCH_RUN"

#: NVTX ranges of a worker. Each batch has one for each of its stages.
WARMUP, TIMED_WINDOW, PROFILED_WINDOW = "warmup", "timed window", "profiled window"
STAGES = ("H2D", "compute", "D2H")
#: The stage before them, in runs with host work.
HOST_STAGE = "host"

#: The workload of most studies: batches through copies and a model.
PIPELINE = "pipeline"
#: Passes over host memory, and a set of workers that start together.
STREAM, CONTENTION = "stream", "contention"
#: Seconds that the workers of a set run together before the timed window; long enough for a few
#: hundred batches of a light model, after a warm-up that each did by itself.
REHEARSAL_S = 0.5
#: What a member of a set is there for: its throughput counts, or it only loads the machine.
MEASURED, BACKGROUND = "measured", "background"
#: Begins `RunSpec.waived` where this process was not granted what the run needs. Another start of
#: the study may be.
NOT_GRANTED = "not granted: "
#: Copies, or the host's memory, by size: no model.
BANDWIDTH = "bandwidth"
#: Any program, unchanged; there is no worker.
COMMAND = "command"

#: `Placement.affinity` of a run that may use all CPUs of its node.
WHOLE_NODE = "node"


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


#: Settings that a cell leaves out where they have their default.
_LATER_SETTINGS = ("host_work", "host_threads", "host_memory")


@dataclass(frozen=True)
class Member:
    """One worker of a set. `role` is MEASURED or BACKGROUND; `name` is unique in its set."""

    name: str
    role: str
    spec: RunSpec


@dataclass(frozen=True)
class RunSpec:
    """Everything the worker needs to know.

    `workload` is what the worker does: one of `worker.workloads.WORKLOADS`, CONTENTION for a set
    of workers, whose specs are in `members`, or COMMAND for a program of the user's, which is in
    `command`. `scenario` names how a set was formed, `background`
    the load beside it ("none", "memory", "socket_link"); both are null without a set. `expected` is
    for the record and for estimates, `distances` for the record; the worker uses neither, and they
    are not part of `cell`. Nor is `waived`: why the run is recorded as waived without being tried,
    nor where a run of an interleaved sweep comes from: `sweep_jobs` are the numbers of the jobs
    that planned it, `sweep_overrides` those that these jobs share and not all jobs have.
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
    command: CommandSpec | None = None
    expected: Expectation | None = None
    distances: Distances | None = None
    waived: str | None = None
    sweep_jobs: tuple[int, ...] = ()
    sweep_overrides: tuple[str, ...] = ()
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
        cell: JsonDict = {part: _shallow_dict(getattr(self, part)) for part in parts}
        # ViTs keep the hash that they had before there were other models.
        old = ("name", *VIT_SIZES)
        cell["vit"] = {k: value for k, value in cell["vit"].items() if k in old or value}
        # Settings of a later version leave the hash of older cells as it was.
        for name in _LATER_SETTINGS:
            if cell["test"][name] == TestSpec.__dataclass_fields__[name].default:
                del cell["test"][name]
        # Left out as below where it says nothing: cells of older studies keep their hash.
        if self.device.others:
            cell["device"] = asdict(self.device)
        else:
            del cell["device"]["others"]
        if self.placement.affinity == WHOLE_NODE:
            del cell["placement"]["affinity"]
        if self.workload != PIPELINE:
            cell["workload"] = self.workload
        if self.stream is not None:
            cell["stream"] = _shallow_dict(self.stream)
        if self.members:
            cell["set"] = {
                "scenario": self.scenario,
                "background": self.background,
                "members": [[m.name, m.role, m.spec.cell()] for m in self.members],
            }
        if self.bandwidth is not None:
            cell["bandwidth"] = _shallow_dict(self.bandwidth)
        if self.command is not None:
            cell["command"] = asdict(self.command)
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
            "device": read_device(data["device"]),
            "placement": Placement(**placement),
            "profile": ProfileSpec(**data.get("profile", {})),
            "stream": StreamSpec(**data["stream"]) if data.get("stream") else None,
            "members": tuple(
                Member(m["name"], m["role"], cls.from_dict(m["spec"]))
                for m in data.get("members", ())
            ),
            "bandwidth": _read_bandwidth(data.get("bandwidth")),
            "command": read_command(data["command"]) if data.get("command") else None,
            "expected": Expectation(**data["expected"]) if data.get("expected") else None,
            "distances": Distances(**data["distances"]) if data.get("distances") else None,
            "sweep_jobs": tuple(data.get("sweep_jobs", ())),
            "sweep_overrides": tuple(data.get("sweep_overrides", ())),
        }
        return cls(**{**data, **parts})


def list_processes(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The specs of all worker processes of these runs: those of its members for a set."""
    return [
        spec for run in runs for spec in ([m.spec for m in run.members] if run.members else [run])
    ]


def _shallow_dict(part: Any) -> JsonDict:
    """The fields of a part without parts of its own. `asdict`, which copies every value, takes
    seconds for the cells of 10,000 runs."""
    return {name: getattr(part, name) for name in part.__dataclass_fields__}


def _read_bandwidth(data: JsonDict | None) -> BandwidthSpec | None:
    """A BandwidthSpec after a trip through JSON, which has lists only."""
    if data is None:
        return None
    lists = {name: tuple(data[name]) for name in ("sizes_bytes", "directions", "memory")}
    return BandwidthSpec(**{**data, **lists})
