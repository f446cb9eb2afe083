"""The worker's function of a bandwidth run: the host's memory, where the run has no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from numa_bench.records import RunSpec
from numa_bench.worker.devices import Waived
from numa_bench.worker.part import Part


def measure_bandwidth_run(
    spec: RunSpec, *, wait_for: Path | None = None, trace: Path | None = None
) -> Iterator[Part]:
    """Measure one bandwidth run; arguments and errors are those of `measurement.measure_run`."""
    if spec.device.kind != "cpu":
        raise Waived(f"bandwidth runs measure the host's memory, not a device {spec.device.kind}")
    from numa_bench.worker.bandwidth.host import measure_host_bandwidth

    yield from measure_host_bandwidth(spec, wait_for=wait_for, trace=trace)
