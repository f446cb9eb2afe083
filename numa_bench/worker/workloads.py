"""What a worker can do, by the name of the workload in its spec. Loads nothing until it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from numa_bench.records import BANDWIDTH, PIPELINE, STREAM

if TYPE_CHECKING:
    from numa_bench.worker.part import Part

#: Module and function that measures. It takes the spec, and `wait_for` and `trace` by keyword (see
#: `measurement.measure_run`), yields parts of the result, and raises whatever goes wrong.
WORKLOADS: dict[str, str] = {
    PIPELINE: "numa_bench.worker.measurement:measure_run",
    STREAM: "numa_bench.worker.sets.stream:measure_stream",
    BANDWIDTH: "numa_bench.worker.bandwidth.run:measure_bandwidth_run",
}


def load_workload(name: str) -> Callable[..., Iterator[Part]]:
    """The function that measures a workload. Raises ValueError for a name that is not known."""
    if name not in WORKLOADS:
        raise ValueError(f"no workload {name!r}; this program knows {', '.join(WORKLOADS)}")
    module, _, function = WORKLOADS[name].partition(":")
    measure: Callable[..., Iterator[Part]] = getattr(importlib.import_module(module), function)
    return measure
