"""Read the sensors that show what disturbs a run. A sensor that does not answer is left out.

System readings come from psutil, GPU readings from NVML (NVML API Reference, "Device Queries").
Units are in the names; the others are fractions (1 is 100 %) or counts.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

Reading = dict[str, float]

#: Least seconds between two readings of the CPUs' clocks: psutil reads a file for each CPU, and
#: many kernels interrupt that CPU to answer (arch/x86/kernel/cpu/aperfmperf.c).
CPU_CLOCK_INTERVAL_S = 1.0
#: Inode of the host's PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_HOST_PID_NAMESPACE = 0xEFFFFFFC
#: Clock-event reasons that mean "slower than possible" (nvml.h, nvmlClocksEventReasons*). Idle,
#: application clocks and display settings are deliberate and left out.
THROTTLE_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000010: "sync boost",
    0x0000000000000020: "thermal (software)",
    0x0000000000000040: "thermal (hardware)",
    0x0000000000000080: "power brake",
}


class SystemSensors:
    """CPU, memory and swap. `cpus` are the CPUs under measurement (empty: all).

    `cpu_foreign` is the fraction of those CPUs' time since the last reading that was used by
    processes other than `pids`, or beyond what `own_cpu_s` returns. The first reading therefore
    contains no rates.
    """

    def __init__(
        self, cpus: Sequence[int], *pids: int, own_cpu_s: Callable[[], float] | None = None
    ) -> None:
        self._cpus = tuple(cpus)
        self._own_cpu_s = own_cpu_s or self._sum_own
        self._workers: list[psutil.Process] = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                self._workers.append(psutil.Process(pid))
        self._before: tuple[float, float, float, float, float] | None = None
        self._clock_due = 0.0

    def read(self) -> Reading:
        """One reading; takes well under a millisecond on a small machine.

        The CPUs' clocks are in one reading a second at most.
        """
        reading: Reading = {}
        swap = None
        with contextlib.suppress(OSError, RuntimeError):
            swap = psutil.swap_memory()
            reading["swap_used_mb"] = swap.used / 1e6
        self._add_rates(reading, float(swap.sin + swap.sout) if swap else 0.0)
        self._add_clock(reading)
        with contextlib.suppress(OSError):
            reading["load_1m"] = os.getloadavg()[0]
        with contextlib.suppress(OSError):
            reading["memory_available_mb"] = psutil.virtual_memory().available / 1e6
        return reading

    def _add_clock(self, reading: Reading) -> None:
        now = time.monotonic()
        if now < self._clock_due:
            return
        self._clock_due = now + CPU_CLOCK_INTERVAL_S
        with contextlib.suppress(OSError, AttributeError, NotImplementedError):
            frequency = psutil.cpu_freq()
            if frequency and frequency.current:
                reading["cpu_mhz"] = frequency.current

    def _sum_own(self) -> float:
        """CPU time of `pids`."""
        # User and system; psutil's other fields are of ended children, and iowait.
        return sum(sum(worker.cpu_times()[:2]) for worker in self._workers)

    def _add_rates(self, reading: Reading, swapped: float) -> None:
        """Rates since the last reading; `swapped` are the bytes swapped since boot."""
        try:
            each = psutil.cpu_times(percpu=True)
            times = [each[cpu] for cpu in self._cpus if cpu < len(each)] or each
            own = self._own_cpu_s()
        except (psutil.Error, OSError, RuntimeError):
            return
        # A CPU in iowait runs nothing, so it is free.
        idle = sum(t.idle + getattr(t, "iowait", 0.0) for t in times)
        steal = sum(getattr(t, "steal", 0.0) for t in times)
        total = sum(sum(t[:8]) for t in times)  # guest time is already included in user time
        now = (total, idle, steal, own, swapped)
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return
        total, idle, steal, own, swap = (b - a for a, b in zip(before, now, strict=True))
        busy = max(0.0, total - idle - steal)
        reading["cpu_busy"] = busy / total
        reading["cpu_foreign"] = max(0.0, busy - own) / total
        reading["cpu_steal"] = max(0.0, steal) / total
        reading["swap_traffic_mb"] = swap / 1e6


class ForeignProcesses:
    """Counts the processes on a GPU that are not the worker's.

    NVML may name processes by their numbers on the host (nvidia-docker issue 1483; newer drivers
    translate), by which a worker in a container does not find itself. There, what was on the GPU
    before the worker (`before`; None: not known) is foreign, and of what came later one process
    is the worker. `on_host`: this process has the host's numbers itself.
    """

    def __init__(
        self, before: set[int] | None, own_pids: Callable[[], set[int]], *, on_host: bool
    ) -> None:
        self._before = before
        self._own_pids = own_pids
        self._own: set[int] = set()
        self._seen: set[int] = set()
        self._same_numbers = on_host

    def count(self, pids: set[int]) -> int | None:
        """The number of foreign processes among those that NVML names; None: it is not known."""
        if pids - self._own and pids != self._seen:  # finding the family reads all of /proc
            self._own = self._own_pids()
        self._seen = set(pids)
        others = pids - self._own
        # One of the worker's numbers among NVML's proves that both count in the same namespace.
        self._same_numbers = self._same_numbers or others != pids
        if self._same_numbers:
            return len(others)
        if self._before is None:
            return None
        earlier, later = pids & self._before, pids - self._before
        if not later:  # the worker is not among them: not there yet, or hidden with other processes
            return len(earlier) or None
        return len(earlier) + len(later) - 1


class GpuSensors:
    """One GPU through NVML. `nvml` is the module (a fake in tests), already initialised.

    `own_pids` returns the worker and its descendants. Make it before the worker uses the GPU.
    `on_host`: whether this process has the host's process numbers.
    """

    def __init__(
        self,
        nvml: Any,
        uuid: str,
        own_pids: Callable[[], set[int]],
        *,
        on_host: bool | None = None,
    ) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        on_host = is_host_pid_namespace() if on_host is None else on_host
        before = None
        # Once the worker has opened the GPU, it may itself be among what is there.
        if not on_host and not uses_gpu(own_pids()):
            with contextlib.suppress(nvml.NVMLError):
                before = self._pids()
        self._foreign = ForeignProcesses(before, own_pids, on_host=on_host)

    def read(self) -> Reading:
        """One reading; for PCIe throughput NVML sleeps 20 ms in each direction."""
        n, handle = self._nvml, self._handle
        queries: dict[str, Callable[[], float]] = {
            "sm_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM),
            "memory_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM),
            # NVML's units: milliwatts, and percent for utilisation.
            "power_w": lambda: n.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "temperature_c": lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU),
            "gpu_busy": lambda: n.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu_memory_busy": lambda: n.nvmlDeviceGetUtilizationRates(handle).memory / 100,
            # NVML reports PCIe in KB/s over 20 ms; TX is seen from the GPU.
            "pcie_tx_gb_per_s": lambda: self._pcie(n.NVML_PCIE_UTIL_TX_BYTES),
            "pcie_rx_gb_per_s": lambda: self._pcie(n.NVML_PCIE_UTIL_RX_BYTES),
            "pcie_generation": lambda: n.nvmlDeviceGetCurrPcieLinkGeneration(handle),
            "pcie_width": lambda: n.nvmlDeviceGetCurrPcieLinkWidth(handle),
            "pcie_max_generation": lambda: n.nvmlDeviceGetMaxPcieLinkGeneration(handle),
            "pcie_max_width": lambda: n.nvmlDeviceGetMaxPcieLinkWidth(handle),
            "throttle_reasons": lambda: n.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        }
        reading: Reading = {}
        for name, query in queries.items():
            with contextlib.suppress(n.NVMLError, AttributeError):
                reading[name] = float(query())
        with contextlib.suppress(n.NVMLError, AttributeError):
            foreign = self._foreign.count(self._pids())
            if foreign is None:
                reading["foreign_unknown"] = 1.0
            else:
                reading["foreign_processes"] = float(foreign)
        return reading

    def _pcie(self, counter: int) -> float:
        kilobytes: float = self._nvml.nvmlDeviceGetPcieThroughput(self._handle, counter)
        return kilobytes * 1e3 / 1e9

    def _pids(self) -> set[int]:
        processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return {process.pid for process in processes}


def is_host_pid_namespace(proc: Path = Path("/proc")) -> bool:
    """Whether process numbers here are the host's; False in containers with numbers of their own,
    and where the kernel does not say."""
    try:
        return (proc / "self/ns/pid").stat().st_ino == _HOST_PID_NAMESPACE
    except OSError:
        return False


def uses_gpu(pids: Iterable[int], proc: Path = Path("/proc")) -> bool:
    """Whether one of these processes has a device file of the NVIDIA driver open."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for file in (proc / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(file.readlink()).startswith("/dev/nvidia"):
                        return True
    return False


def decode_throttle_reasons(mask: int) -> list[str]:
    """Names of the throttle reasons in an NVML clock-event mask."""
    return [name for bit, name in THROTTLE_REASONS.items() if mask & bit]
