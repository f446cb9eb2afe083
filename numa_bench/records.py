"""The data model: what is planned, what was measured, and the flat record that users read.

Every file a study leaves behind is made of these classes. Bytes, seconds and samples inside; a
metric's name carries its unit; MB is 1e6 bytes and GB is 1e9 bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from numa_bench.metric_registry import METRICS

SCHEMA_VERSION = 1
#: Every process of a run carries this variable, whatever session it moves to, so that none of
#: them can outlive the run unnoticed. Its value: the starter's process number, "-", a random part.
RUN_TOKEN = "NUMA_BENCH_RUN"

#: NVTX ranges of a worker. Each batch has one for each of its stages.
WARMUP, TIMED_WINDOW, PROFILED_WINDOW = "warmup", "timed window", "profiled window"
STAGES = ("H2D", "compute", "D2H")

JsonDict = dict[str, Any]


class Status(str, Enum):
    """How a run ended. Only `passed` runs enter statistics."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    WAIVED = "waived"  # the machine cannot do it; the reason is in `error`
    INVALID = "invalid"  # it ran, but a check failed; kept, and excluded from statistics


#: Statuses that a resumed study does not run again.
DONE = frozenset({Status.PASSED, Status.WAIVED})
#: Statuses that make the study end with exit code 1.
BAD = frozenset({Status.FAILED, Status.TIMEOUT, Status.INVALID})


@dataclass(frozen=True)
class Placement:
    """Where one run's threads and memory go.

    `numa_node` None: CPUs not bound. `memory_nodes` empty: memory not bound. `cpus` are the CPUs
    the run may use when it is bound. `by_cpu` is set where numactl must be told CPUs, not the
    node. `label` is derived from the topology: local, remote, remote_cpu, remote_memory,
    interleave, unbound or unknown.
    """

    numa_node: int | None
    memory_nodes: tuple[int, ...]
    policy: str
    label: str
    cpus: tuple[int, ...] = ()
    by_cpu: bool = False

    @property
    def bound(self) -> bool:
        return self.numa_node is not None or bool(self.memory_nodes)


@dataclass(frozen=True)
class VitSpec:
    """A resolved model. `depth` 0 is pure transfer, and the other sizes are then 0."""

    name: str
    patch_size: int
    depth: int
    dim: int
    heads: int
    dim_head: int
    mlp_dim: int


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
class RunSpec:
    """Everything the worker needs to know, and nothing else."""

    study: str
    run_id: str
    repeat: int
    vit: VitSpec
    test: TestSpec
    device: DeviceSpec
    placement: Placement
    profile: ProfileSpec = ProfileSpec()
    schema_version: int = SCHEMA_VERSION

    def cell(self) -> JsonDict:
        """The canonical spec of what is measured: the same for all repeats, and in any study.

        How it is profiled is not part of it: throughput comes from a window without profiler.
        """
        return {
            part: asdict(getattr(self, part)) for part in ("vit", "test", "device", "placement")
        }

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
        parts = {
            "vit": VitSpec(**data["vit"]),
            "test": TestSpec(**data["test"]),
            "device": DeviceSpec(**data["device"]),
            "placement": Placement(**placement),
            "profile": ProfileSpec(**data.get("profile", {})),
        }
        return cls(**{**data, **parts})


@dataclass
class RunResult:
    """What one worker measured.

    `samples` holds one list per stage, one value per batch, in milliseconds (`start_ms` counts
    from the start of the window); `warmup_samples` likewise, never mixed in. `observed` says
    where the process really ran and its memory really was.
    """

    run_id: str
    spec_hash: str
    status: str
    error: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    warmup_samples: dict[str, list[float]] = field(default_factory=dict)
    warmup: JsonDict = field(default_factory=dict)
    observed: JsonDict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: JsonDict) -> RunResult:
        """The inverse of `to_dict`. Raises TypeError on unknown, missing or wrongly typed fields,
        ValueError on an unknown status."""
        Status(data["status"])
        result = cls(**data)
        for name in ("metrics", "samples", "warmup_samples", "warmup", "observed", "versions"):
            if not isinstance(getattr(result, name), dict):
                raise TypeError(f"{name} is not an object")
        return result


@dataclass(frozen=True)
class Execution:
    """What was seen of one run from outside. Paths are relative to the study directory.

    `nsys_report`, `nsys_sqlite` and `torch_trace` are what a profiler left, where it did.
    `environment` is the id of the machine and software; `monitor` holds min, median and max of
    every sensor inside the timed window.
    """

    status: Status
    exit_code: int | None
    error: str | None
    start_time: str
    duration_s: float
    attempt: int
    stdout_log: str
    stderr_log: str
    nsys_report: str | None = None
    nsys_sqlite: str | None = None
    torch_trace: str | None = None
    warnings: tuple[str, ...] = ()
    environment: str | None = None
    monitor: dict[str, dict[str, float]] = field(default_factory=dict)


def make_record(
    spec: RunSpec, result: RunResult | None, execution: Execution, host: str
) -> JsonDict:
    """One row of results.json. Metrics that were not measured are null.

    The executor's verdict stands above the worker's: a worker that said "passed" and then died
    did not pass.
    """
    metrics = result.metrics if result is not None else {}
    return {
        **_planned(spec),
        "host": host,
        "status": execution.status.value,
        "success": execution.status is Status.PASSED,
        "exit_code": execution.exit_code,
        "error": execution.error,
        "start_time": execution.start_time,
        "duration_s": round(execution.duration_s, 3),
        "attempt": execution.attempt,
        **{name: metrics.get(name) for name in METRICS},
        "warmup": result.warmup if result is not None else {},
        "observed": result.observed if result is not None else {},
        "versions": result.versions if result is not None else {},
        "environment": execution.environment,
        "monitor": execution.monitor,
        "warnings": [*(result.warnings if result is not None else []), *execution.warnings],
        "stdout_log": execution.stdout_log,
        "stderr_log": execution.stderr_log,
        "nsys_report": execution.nsys_report,
        "nsys_sqlite": execution.nsys_sqlite,
        "torch_trace": execution.torch_trace,
    }


def _planned(spec: RunSpec) -> JsonDict:
    """What a record says of the plan."""
    memory = spec.placement.memory_nodes
    return {
        "schema_version": SCHEMA_VERSION,
        "study": spec.study,
        "run_id": spec.run_id,
        "spec_hash": spec.cell_hash(),
        "repeat": spec.repeat,
        "device": spec.device.kind,
        "gpu_id": spec.device.gpu_id,
        "gpu_name": spec.device.gpu_name,
        "gpu_uuid": spec.device.gpu_uuid,
        "gpu_numa_node": spec.device.gpu_numa_node,
        "numa_node": spec.placement.numa_node,
        "memory_node": memory[0] if len(memory) == 1 else None,
        "memory_nodes": list(memory),
        "memory_policy": spec.placement.policy,
        "placement": spec.placement.label,
        "vit_name": spec.vit.name,
        "vit_config": asdict(spec.vit),
        "test_config": asdict(spec.test),
        "compile_model": spec.test.compile_model,
        "compile_mode": spec.test.compile_mode if spec.test.compile_model else None,
        "precision": spec.test.precision,
        "profiler": spec.profile.kind,
        "profiler_capture": spec.profile.capture if spec.profile.kind != "none" else None,
    }
