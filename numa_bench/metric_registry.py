"""The metrics of a record: unit, meaning, and which direction is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast


@dataclass(frozen=True)
class Metric:
    """One measured quantity: its unit, its meaning, and which direction is better (or None)."""

    unit: str
    meaning: str
    higher_is_better: bool | None = None


#: Fewest runs of a cell from which a verdict is possible. Chosen: two runs cannot show which one
#: is the outlier.
LEAST_REPEATS = 3
#: Which direction of a metric is better.
HIGHER, LOWER = "higher", "lower"
#: Every metric a record can hold. A metric that a run did not measure is null, never 0.
METRICS: dict[str, Metric] = {
    "throughput_samples_per_s": Metric(
        "samples/s", "samples through all stages per second of the timed window", True
    ),
    "latency_p50_ms": Metric("ms", "start of a batch's H2D to the end of its D2H, median", False),
    "latency_p95_ms": Metric("ms", "the same, 95th percentile", False),
    "latency_p99_ms": Metric("ms", "the same, 99th percentile", False),
    "host_ms": Metric("ms", "host work on one batch by itself, median (host_work)", False),
    "h2d_ms": Metric("ms", "host-to-device copy of one batch by itself, median", False),
    "compute_ms": Metric("ms", "forward pass of one batch by itself, median", False),
    "d2h_ms": Metric("ms", "device-to-host copy of one batch's output by itself, median", False),
    "h2d_gb_per_s": Metric("GB/s", "input bytes of all batches over their summed H2D time", True),
    "d2h_gb_per_s": Metric("GB/s", "output bytes of all batches over their summed D2H time", True),
    "duplex_gb_per_s": Metric(
        "GB/s", "H2D and D2H copies at the same time, both together (bandwidth runs)", True
    ),
    "copy_latency_us": Metric(
        "us", "H2D copy of 4 KiB, from its submission to its end on the host's clock", False
    ),
    "launch_latency_us": Metric("us", "the same for the smallest kernel", False),
    "host_pipelined_ms": Metric("ms", "host work inside the pipeline, median (CUDA)", False),
    "h2d_pipelined_ms": Metric("ms", "the H2D copy inside the pipeline, median (CUDA)", False),
    "compute_pipelined_ms": Metric("ms", "the forward pass inside the pipeline, median", False),
    "d2h_pipelined_ms": Metric("ms", "the D2H copy inside the pipeline, median (CUDA)", False),
    "host_submit_fraction": Metric(
        "1", "part of the timed window in which the host submitted work (CUDA)", None
    ),
    "host_wait_fraction": Metric(
        "1", "part of the timed window in which the submission waited for host work", False
    ),
    "busiest_stage_fraction": Metric(
        "1", "part of the timed window that the busiest stage needs by itself (CUDA)", None
    ),
    "overlap_efficiency": Metric(
        "1",
        "stage time hidden behind other stages over what could be; about 0 or below on the CPU",
        True,
    ),
    "compile_s": Metric(
        "s", "first call of the compiled model, CUDA graph capture not counted", False
    ),
    "warmup_s": Metric("s", "warm-up batches, after compilation", False),
    "peak_device_memory_mb": Metric("MB", "most device memory allocated (CUDA only)", False),
    "peak_host_memory_mb": Metric("MB", "largest resident set of the worker", False),
    "placement_fraction": Metric("1", "host-buffer pages on the requested node(s)", True),
    "profiled_throughput_samples_per_s": Metric(
        "samples/s", "the same in the shorter window that the profiler recorded", None
    ),
    "profiler_overhead": Metric(
        "1", "time per sample in the profiled window over that in the timed one, minus 1", None
    ),
    "flop_per_sample": Metric(
        "FLOP", "arithmetic of one sample: of a ViT computed, of any other model counted", None
    ),
    "stream_gb_per_s": Metric(
        "GB/s", "bytes that all measured workers of a set streamed, per second", True
    ),
    "fairness": Metric(
        "1", "Jain's index of the workers' throughput: 1 is equal, 1/n is one worker alone", True
    ),
    "slowest_worker_share": Metric(
        "1", "throughput of the slowest worker of a set over the mean of all", True
    ),
    "read_gb_per_s": Metric(
        "GB/s", "sequential read of the host's memory, largest size of a bandwidth run", True
    ),
    "write_gb_per_s": Metric("GB/s", "the same for sequential writes, bytes stored", True),
    "copy_gb_per_s": Metric("GB/s", "the same for a copy, bytes read and bytes written", True),
    "load_latency_ns": Metric(
        "ns", "one load that depends on the one before it, largest size of a bandwidth run", False
    ),
    "wall_s": Metric("s", "wall time of a command, from its start to its end", False),
    "measured_samples": Metric("samples", "samples in the timed window", None),
    "measured_s": Metric("s", "length of the timed window", None),
}

#: The metric by which placements are compared, by workload and kind of device.
HEADLINES: dict[tuple[str, str], str] = {
    ("bandwidth", "cuda"): "h2d_gb_per_s",
    ("bandwidth", "cpu"): "read_gb_per_s",
    ("contention", "cpu"): "stream_gb_per_s",
    ("command", "cuda"): "wall_s",
    ("command", "cpu"): "wall_s",
}
#: Begins the record's key of a metric that the user named, so that it cannot be one of ours.
NAMED = "metric_"


def headline_metric(
    workload: str | None, device: str, config: Mapping[str, Any] | None = None
) -> str:
    """The metric by which placements are compared; None is the workload of older records.

    `config` is the record's `workload_config`: of a command's own metrics the first one counts.
    """
    own = next(iter(list_named_metrics(config or {})), None)
    return own or HEADLINES.get((workload or "pipeline", device), "throughput_samples_per_s")


def list_named_metrics(config: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics that a command's settings name, by their keys in records.

    Entries of a damaged record that are none are left out.
    """
    listed = config.get("metrics")
    return {
        NAMED + str(own["name"]): Metric(
            str(own["unit"]), f"{own['name']}, as the command reported it", own["better"] == HIGHER
        )
        for own in (listed if isinstance(listed, (list, tuple)) else ())
        if isinstance(own, Mapping) and {"name", "unit", "better"} <= own.keys()
    }


def find_metric(name: str, config: Mapping[str, Any] | None = None) -> Metric:
    """A metric by its key in records. Raises KeyError if neither registry nor `config` has it."""
    return METRICS[name] if name in METRICS else list_named_metrics(config or {})[name]


class MetricValues(TypedDict):
    """The metrics of one record, by name; a test compares the names with `METRICS`."""

    throughput_samples_per_s: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    host_ms: float | None
    h2d_ms: float | None
    compute_ms: float | None
    d2h_ms: float | None
    h2d_gb_per_s: float | None
    d2h_gb_per_s: float | None
    duplex_gb_per_s: float | None
    copy_latency_us: float | None
    launch_latency_us: float | None
    host_pipelined_ms: float | None
    h2d_pipelined_ms: float | None
    compute_pipelined_ms: float | None
    d2h_pipelined_ms: float | None
    host_submit_fraction: float | None
    host_wait_fraction: float | None
    busiest_stage_fraction: float | None
    overlap_efficiency: float | None
    compile_s: float | None
    warmup_s: float | None
    peak_device_memory_mb: float | None
    peak_host_memory_mb: float | None
    placement_fraction: float | None
    profiled_throughput_samples_per_s: float | None
    profiler_overhead: float | None
    flop_per_sample: float | None
    stream_gb_per_s: float | None
    fairness: float | None
    slowest_worker_share: float | None
    read_gb_per_s: float | None
    write_gb_per_s: float | None
    copy_gb_per_s: float | None
    load_latency_ns: float | None
    wall_s: float | None
    measured_samples: float | None
    measured_s: float | None


def metric_values(measured: Mapping[str, float | None]) -> MetricValues:
    """All metrics of a record: those in `measured`, and null for the others."""
    # mypy cannot follow a comprehension over METRICS into the keys of MetricValues.
    return cast(MetricValues, {name: measured.get(name) for name in METRICS})
