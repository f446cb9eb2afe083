"""One sampler beside a set: the CPUs of all workers, and each of their GPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numa_bench.machine.backend import current_backend
from numa_bench.machine.sensors import SystemSensors
from numa_bench.records import RunSpec
from numa_bench.runner.disturbance import Summary, find_monitor_warnings
from numa_bench.runner.monitor import Monitor, Source, open_gpu_sensors, prefix_readings


class SetMonitor(Monitor):
    """A `Monitor` of a set. Readings of a GPU have the worker's name before theirs:
    "gpu3.sm_mhz"."""

    def __init__(
        self, spec: RunSpec, path: Path, interval_s: float, nvml: Any | None = None
    ) -> None:
        cpus = {cpu for member in spec.members for cpu in member.spec.placement.cpus}
        placement = replace(spec.placement, cpus=tuple(sorted(cpus)))
        super().__init__(replace(spec, placement=placement), path, interval_s, nvml)
        self._pids: Mapping[str, int] = {}

    def start_all(self, pids: Mapping[str, int]) -> None:
        """Start sampling beside the workers, whose process numbers these are."""
        self._pids = pids
        self.start_sampling(next(iter(pids.values())))

    def _open_sources(self, stack: contextlib.ExitStack, pid: int) -> list[Source]:
        sources: list[Source] = []
        if current_backend().simulated is None:
            sources.append(SystemSensors(self._spec.placement.cpus, *self._pids.values()).read)
        for member in self._spec.members:
            own = self._pids.get(member.name, pid)
            gpu = stack.enter_context(open_gpu_sensors(member.spec.device, self._nvml, own))
            if gpu is not None:
                sources.append(prefix_readings(member.name, gpu))
        return sources


def find_set_warnings(summary: Summary | None, samples: int, names: Sequence[str]) -> list[str]:
    """The warnings of `find_monitor_warnings` for the machine, and for each worker by its name."""
    found = find_monitor_warnings(summary, samples)
    for name in names if summary else ():
        assert summary is not None
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in summary.items() if k.startswith(prefix)}
        found += [name_worker(line, name) for line in find_monitor_warnings(own, samples)]
    return found


def name_worker(warning: str, name: str) -> str:
    """A warning of one worker in the record of its set: "code: gpu3: what was observed"."""
    code, colon, text = warning.partition(":")
    return f"{code}{colon} {name}:{text}" if colon else f"{name}: {warning}"
