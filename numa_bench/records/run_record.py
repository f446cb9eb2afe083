"""What was measured: a worker's result, how a run ended, its record, the summary of a study.

Bytes, seconds and samples inside; a metric's name carries its unit; MB is 1e6 bytes and GB is 1e9
bytes.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TypedDict, cast

from numa_bench.metric_registry import MetricValues, list_named_metrics, metric_values
from numa_bench.records.checks import Check, find_mismatch, make_check, make_checks
from numa_bench.records.cpu_lists import format_cpu_list
from numa_bench.records.run_parts import Distances, JsonDict, WorkerValues
from numa_bench.records.specs import SCHEMA_VERSION, RunSpec, list_processes


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


@dataclass
class RunResult:
    """What one worker measured.

    `samples` holds one list per stage, one value per batch, in milliseconds (`start_ms` counts
    from the start of the window); `warmup_samples` likewise, never mixed in. `observed`: on
    which CPUs the process ran and on which nodes its memory was. `series`: the points of a
    bandwidth run (`worker.bandwidth`), each with its raw samples.
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
    series: list[JsonDict] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: JsonDict) -> RunResult:
        """The inverse of `to_dict`. Raises TypeError on unknown, missing or wrongly typed fields,
        ValueError on an unknown status."""
        if not isinstance(data, dict):
            raise TypeError("it is not an object")
        if data.get("status") not in [status.value for status in Status]:
            raise ValueError(f"status {str(data.get('status'))[:40]!r} is unknown")
        result = cls(**data)
        wrong = find_mismatch(vars(result), _result_checks())
        if wrong is not None:
            raise TypeError(f"{wrong} is of the wrong type")
        return result


@functools.cache
def _result_checks() -> dict[str, Check]:
    # What is not finite is stored as null.
    values = make_check(dict[str, list[float | None]])
    return {**make_checks(RunResult), "samples": values, "warmup_samples": values}


@dataclass(frozen=True)
class Execution:
    """What was observed of one run from outside. Paths are relative to the study directory.

    `nsys_report`, `nsys_sqlite` and `torch_trace` are the files of a profiler, if there are any.
    `environment` is the id of the machine and software; `monitor` holds min, median and max of
    every sensor inside the timed window: None without a reading in it, empty without a monitor.
    `workers` are those of a set. `lock_wait_s`: how long the run waited for its turn, which is not
    in `duration_s`; `shared_host`: other measurements of ours were allowed beside it.
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
    monitor: dict[str, dict[str, float]] | None = field(default_factory=dict)
    workers: tuple[WorkerValues, ...] = ()
    lock_wait_s: float = 0.0
    shared_host: bool = False


class PlannedValues(TypedDict):
    """The part of a record that comes from the plan.

    `gpu_ids` are all GPUs that the run sees, and the other keys of a GPU those of the first.
    `memory_node`: null unless there is one. `cpu_affinity` and `cpus` (a list such as "0-3,8") are
    null where CPUs are not bound. `workload_config` is what a workload without a model measures,
    a `BandwidthSpec` or a `CommandSpec`. `predicted_bound`: link, host or compute; null where
    nothing was predicted. Distances and their classes are those of `Distances`. `scenario` and
    `background` are null, but in the record of a set of workers. `sweep_jobs` and `sweep_overrides`
    are those of `RunSpec`, empty but in an interleaved sweep.
    """

    schema_version: int
    study: str
    run_id: str
    spec_hash: str
    repeat: int
    workload: str
    workload_config: JsonDict
    device: str
    gpu_id: int | None
    gpu_ids: list[int]
    gpu_name: str | None
    gpu_uuid: str | None
    gpu_numa_node: int | None
    numa_node: int | None
    memory_node: int | None
    memory_nodes: list[int]
    memory_policy: str
    placement: str
    distance_class: str | None
    cpu_distance_class: str | None
    memory_distance_class: str | None
    cpu_distance: int | None
    memory_distance: int | None
    cpu_affinity: str | None
    cpus: str | None
    vit_name: str
    vit_config: JsonDict
    test_config: JsonDict
    compile_model: bool
    compile_mode: str | None
    precision: str
    profiler: str
    profiler_capture: str | None
    predicted_bound: str | None
    scenario: str | None
    background: str | None
    sweep_jobs: list[int]
    sweep_overrides: list[str]


class Record(PlannedValues, MetricValues):
    """One run in results.json: flat, so that pandas.read_json needs no preparation.

    Paths are relative to the study directory; `start_time` is UTC in ISO 8601. `lock_wait_s` and
    `shared_host` are those of `Execution`.
    """

    host: str
    status: str
    success: bool
    exit_code: int | None
    error: str | None
    start_time: str
    duration_s: float
    lock_wait_s: float | None
    shared_host: bool
    attempt: int
    warmup: JsonDict
    observed: JsonDict
    versions: dict[str, str]
    environment: str | None
    monitor: dict[str, dict[str, float]] | None
    workers: list[WorkerValues]
    warnings: list[str]
    stdout_log: str
    stderr_log: str
    nsys_report: str | None
    nsys_sqlite: str | None
    torch_trace: str | None


def make_record(spec: RunSpec, result: RunResult | None, execution: Execution, host: str) -> Record:
    """One row of results.json. Metrics that were not measured are null.

    The runner's verdict overrides the worker's: a worker that reported "passed" and then died
    did not pass. Metrics that the user named are keys of their own, which begin with "metric_".
    """
    record: Record = {
        **_planned(spec),
        "host": host,
        "status": execution.status.value,
        "success": execution.status is Status.PASSED,
        "exit_code": execution.exit_code,
        "error": execution.error,
        "start_time": execution.start_time,
        "duration_s": round(execution.duration_s, 3),
        "lock_wait_s": round(execution.lock_wait_s, 3),
        "shared_host": execution.shared_host,
        "attempt": execution.attempt,
        **metric_values(result.metrics if result is not None else {}),
        "warmup": result.warmup if result is not None else {},
        "observed": result.observed if result is not None else {},
        "versions": result.versions if result is not None else {},
        "environment": execution.environment,
        "monitor": execution.monitor,
        "workers": list(execution.workers),
        "warnings": [*(result.warnings if result is not None else []), *execution.warnings],
        "stdout_log": execution.stdout_log,
        "stderr_log": execution.stderr_log,
        "nsys_report": execution.nsys_report,
        "nsys_sqlite": execution.nsys_sqlite,
        "torch_trace": execution.torch_trace,
    }
    # A TypedDict cannot have keys that are known at run time only.
    return cast(Record, {**record, **_named_metrics(spec, result)})


def _planned(spec: RunSpec) -> PlannedValues:
    memory = spec.placement.memory_nodes
    distances = spec.distances or Distances()
    return {
        "schema_version": SCHEMA_VERSION,
        "study": spec.study,
        "run_id": spec.run_id,
        "spec_hash": spec.cell_hash(),
        "repeat": spec.repeat,
        "workload": spec.workload,
        "workload_config": _workload_config(spec),
        "device": spec.device.kind,
        "gpu_id": spec.device.gpu_id,
        "gpu_ids": sorted({i for one in list_processes([spec]) for i in one.device.gpu_ids}),
        "gpu_name": spec.device.gpu_name,
        "gpu_uuid": spec.device.gpu_uuid,
        "gpu_numa_node": spec.device.gpu_numa_node,
        "numa_node": spec.placement.numa_node,
        "memory_node": memory[0] if len(memory) == 1 else None,
        "memory_nodes": list(memory),
        "memory_policy": spec.placement.policy,
        "placement": spec.placement.label,
        "distance_class": distances.farthest_class,
        "cpu_distance_class": distances.cpu_class,
        "memory_distance_class": distances.memory_class,
        "cpu_distance": distances.cpu,
        "memory_distance": distances.memory,
        "cpu_affinity": spec.placement.affinity if spec.placement.numa_node is not None else None,
        "cpus": format_cpu_list(spec.placement.cpus) or None,
        "vit_name": spec.vit.name,
        "vit_config": asdict(spec.vit),
        "test_config": asdict(spec.test),
        "compile_model": spec.test.compile_model,
        "compile_mode": spec.test.compile_mode if spec.test.compile_model else None,
        "precision": spec.test.precision,
        "profiler": spec.profile.kind,
        "profiler_capture": spec.profile.capture if spec.profile.kind != "none" else None,
        "predicted_bound": spec.expected.bound if spec.expected else None,
        "scenario": spec.scenario,
        "background": spec.background,
        "sweep_jobs": list(spec.sweep_jobs),
        "sweep_overrides": list(spec.sweep_overrides),
    }


def _workload_config(spec: RunSpec) -> JsonDict:
    """What a workload without a model does."""
    own = spec.bandwidth or spec.command
    return asdict(own) if own is not None else {}


def _named_metrics(spec: RunSpec, result: RunResult | None) -> dict[str, float | None]:
    """The values of the metrics that the user named; null where they were not measured."""
    names = list_named_metrics(_workload_config(spec))
    return {name: result.metrics.get(name) if result is not None else None for name in names}


def add_warnings(record: Record, *warnings: str) -> Record:
    """The record with more warnings; `record` is not changed."""
    return {**record, "warnings": [*record["warnings"], *warnings]}
