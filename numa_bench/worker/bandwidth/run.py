"""The worker's function of a bandwidth run: copies of a GPU, or the host's memory without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from numa_bench.records import RunSpec
from numa_bench.worker.part import Part


def measure_bandwidth_run(
    spec: RunSpec, *, wait_for: Path | None = None, trace: Path | None = None
) -> Iterator[Part]:
    """Measure one bandwidth run; arguments and errors are those of `measurement.measure_run`."""
    if spec.device.kind == "cuda":
        from numa_bench.worker.bandwidth.device import measure_device_bandwidth

        yield from measure_device_bandwidth(spec, wait_for=wait_for, trace=trace)
        return
    from numa_bench.worker.bandwidth.host import measure_host_bandwidth

    yield from measure_host_bandwidth(spec, wait_for=wait_for, trace=trace)
