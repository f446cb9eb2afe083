"""Samples sensors while a worker runs, on CPUs that are not measured if there are any.

A thread of the runner that pins itself and sleeps between samples. Its own CPU time is in
monitor.json, so that its cost is known for every run.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from numa_bench.jsonio import read_json, write_json
from numa_bench.machine.backend import current_backend
from numa_bench.machine.nvml import open_nvml
from numa_bench.machine.sensors import GpuSensors, Reading, SystemSensors
from numa_bench.records import SCHEMA_VERSION, DeviceSpec, JsonDict, RunSpec

logger = logging.getLogger("numa_bench")
Source = Callable[[], Reading]
#: Longest wait for the last reading when a run has ended: a query may hang in the driver.
STOP_WAIT_S = 5.0
#: Interval of looking for `pid_file`. The worker writes it before it measures anything.
_PID_POLL_S = 0.05


class Monitor:
    """Use as a context manager around one run; call `start_sampling` when its process exists.

    `interval_s` 0 switches it off. `nvml` lets tests pass a fake module. `pid_file`: the file to
    which the worker writes its process number when another process was started, namely nsys.
    `own_cpu_s`: the CPU time of what is measured, where that is more than one process.
    """

    def __init__(
        self,
        spec: RunSpec,
        path: Path,
        interval_s: float,
        nvml: Any | None = None,
        pid_file: Path | None = None,
        own_cpu_s: Callable[[], float] | None = None,
    ) -> None:
        self._spec = spec
        self._path = path
        self._interval_s = interval_s
        self._nvml = nvml
        self._pid_file = pid_file
        self._own_cpu_s = own_cpu_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._cpu_s = 0.0
        self.times: list[float] = []
        self.readings: list[Reading] = []

    def __enter__(self) -> Monitor:
        return self

    def start_sampling(self, pid: int) -> None:
        """Start sampling beside the worker `pid`."""
        if self._interval_s > 0:
            self._thread = threading.Thread(target=self._loop, args=(pid,), daemon=True)
            self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            # A query that hangs in the driver must not hang the study: the thread is a daemon.
            self._thread.join(STOP_WAIT_S)

    def save_readings(self) -> None:
        """Write monitor.json; a failure is logged and does not fail the run.

        Not flushed: what a verdict needs of it is in the record, and a flush takes milliseconds.
        """
        if not self.times:
            return
        try:
            readings = self.to_dict()
            write_json(self._path, readings, indent=None, flush_content=False, flush_name=False)
        except OSError as error:
            logger.warning("%s could not be written: %s", self._path.name, error)

    def to_dict(self) -> JsonDict:
        """Columns over time; null where a sensor did not answer.

        `monotonic_s` is CLOCK_MONOTONIC, the clock of the worker's window.
        """
        names = sorted({name for reading in self.readings for name in reading})
        return {
            "schema_version": SCHEMA_VERSION,
            "interval_s": self._interval_s,
            "monitor_cpu_s": self._cpu_s,
            "monotonic_s": self.times,
            "series": {name: [r.get(name) for r in self.readings] for name in names},
        }

    def summarise_window(
        self, window: tuple[float, float] | None
    ) -> dict[str, dict[str, float]] | None:
        """Minimum, median and maximum of every sensor inside the timed window.

        `window` is (begin, end) in CLOCK_MONOTONIC. None without a window or without a reading in
        it: readings of start-up and warm-up say nothing about it. Empty if the monitor is off.
        """
        if self._interval_s <= 0:
            return {}
        inside = self._inside(window)
        return summarise_readings(inside) if inside else None

    def count_readings(self, window: tuple[float, float] | None) -> int:
        """Number of readings inside the window."""
        return len(self._inside(window))

    def _inside(self, window: tuple[float, float] | None) -> list[Reading]:
        if window is None:
            return []
        pairs = zip(self.times, self.readings, strict=True)
        return [reading for moment, reading in pairs if window[0] <= moment <= window[1]]

    def _loop(self, pid: int) -> None:
        move_away(self._spec.placement.cpus)
        # Only after pinning: what follows reads files and starts NVML.
        pid = self._worker_pid(pid)
        begin = time.thread_time()
        with contextlib.ExitStack() as stack:
            sources = self._open_sources(stack, pid)
            while not self._stop.is_set():
                # Intervals are counted from start to start, as a reading may take 50 ms.
                due = time.monotonic() + self._interval_s
                reading: Reading = {}
                for read in sources:
                    reading.update(read())
                self.times.append(time.monotonic())
                self.readings.append(reading)
                # Updated with each reading: a thread that hangs in the driver never gets further.
                self._cpu_s = time.thread_time() - begin
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _open_sources(self, stack: contextlib.ExitStack, pid: int) -> list[Source]:
        """What is read each time; `stack` closes it."""
        sources: list[Source] = []
        # A simulated machine has no CPUs or memory to watch; those here only simulate it.
        if current_backend().simulated is None:
            sources.append(self._open_system(pid).read)
        several = len(self._spec.device.gpus) > 1
        for device in self._spec.device.gpus:
            gpu = stack.enter_context(open_gpu_sensors(device, self._nvml, pid))
            if gpu is not None:
                name = f"gpu{device.gpu_id}"
                sources.append(prefix_readings(name, gpu) if several else gpu.read)
        return sources

    def _open_system(self, pid: int) -> SystemSensors:
        return SystemSensors(self._spec.placement.cpus, pid, own_cpu_s=self._own_cpu_s)

    def _worker_pid(self, pid: int) -> int:
        """The worker's process number; waits for `pid_file` if there is one."""
        while self._pid_file is not None and not self._stop.wait(_PID_POLL_S):
            # Not written yet: the worker is still starting.
            with contextlib.suppress(OSError, ValueError, KeyError):
                return int(read_json(self._pid_file)["pid"])
        return pid


def prefix_readings(name: str, gpu: GpuSensors) -> Source:
    """Readings of one of several GPUs, each with a name before its own: "gpu3.sm_mhz"."""

    def read() -> Reading:
        return {f"{name}.{key}": value for key, value in gpu.read().items()}

    return read


def summarise_readings(readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of every sensor that answered."""
    names = sorted({name for reading in readings for name in reading})
    found = {}
    for name in names:
        values = [reading[name] for reading in readings if name in reading]
        found[name] = {
            "min": min(values),
            "median": statistics.median(values),
            "max": max(values),
        }
    for name in names:
        if name.endswith("throttle_reasons"):  # with several GPUs, after the worker's name
            # A bit mask: every reason seen in any reading counts.
            masks = (int(r[name]) for r in readings if name in r)
            found[name]["max"] = float(functools.reduce(operator.or_, masks))
    return found


def move_away(measured: Sequence[int]) -> None:
    """Pin the calling thread to CPUs that are not measured, if this process may use any."""
    free = os.sched_getaffinity(0) - set(measured)
    if measured and free:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, free)  # 0 is the calling thread: sched_setaffinity(2)


@contextlib.contextmanager
def open_gpu_sensors(
    device: DeviceSpec, module: Any | None, pid: int
) -> Iterator[GpuSensors | None]:
    """Sensors of a worker's GPU; None without a GPU, or if NVML does not answer."""
    uuid = device.gpu_uuid
    with contextlib.ExitStack() as stack:
        sensors = None
        if uuid is not None:
            try:
                # nvmlInit and nvmlShutdown count, so others in this process may use NVML too.
                nvml = stack.enter_context(open_nvml(module))
                sensors = GpuSensors(nvml, uuid, lambda: _family(pid))
            except Exception as error:  # noqa: BLE001 - sensors must never fail a measurement
                logger.warning("GPU sensors are missing: %s", error)
        yield sensors


def _family(pid: int) -> set[int]:
    """The worker and its descendants."""
    try:
        worker = psutil.Process(pid)
        return {pid, *(child.pid for child in worker.children(recursive=True))}
    except psutil.Error:
        return {pid}
