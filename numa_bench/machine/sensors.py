"""Read the sensors that show what disturbs a run. A sensor that does not answer is left out.

System readings come from psutil, GPU readings from NVML (NVML API Reference, "Device Queries").
Units are in the names; the others are fractions (1 is 100 %) or counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import psutil

Reading = dict[str, float]

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
    processes other than `pid`. The first reading therefore contains no rates.
    """

    def __init__(self, cpus: Sequence[int], pid: int) -> None:
        self._cpus = tuple(cpus)
        self._worker = None
        with contextlib.suppress(psutil.Error):
            self._worker = psutil.Process(pid)
        self._before: tuple[float, float, float, float, float] | None = None

    def read(self) -> Reading:
        """One reading; takes well under a millisecond on a small machine."""
        reading: Reading = {}
        self._add_rates(reading)
        with contextlib.suppress(OSError, AttributeError, NotImplementedError):
            frequency = psutil.cpu_freq()
            if frequency and frequency.current:
                reading["cpu_mhz"] = frequency.current
        with contextlib.suppress(OSError):
            reading["load_1m"] = os.getloadavg()[0]
        with contextlib.suppress(OSError):
            reading["memory_available_mb"] = psutil.virtual_memory().available / 1e6
        with contextlib.suppress(OSError, RuntimeError):
            reading["swap_used_mb"] = psutil.swap_memory().used / 1e6
        return reading

    def _add_rates(self, reading: Reading) -> None:
        try:
            each = psutil.cpu_times(percpu=True)
            times = [each[cpu] for cpu in self._cpus if cpu < len(each)] or each
            own = sum(self._worker.cpu_times()[:2]) if self._worker else 0.0
            swapped = psutil.swap_memory()
        except (psutil.Error, OSError, RuntimeError):
            return
        idle = sum(t.idle + getattr(t, "iowait", 0.0) for t in times)
        steal = sum(getattr(t, "steal", 0.0) for t in times)
        total = sum(sum(t[:8]) for t in times)  # guest time is already included in user time
        now = (total, idle, steal, own, float(swapped.sin + swapped.sout))
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return
        total, idle, steal, own, swap = (b - a for a, b in zip(before, now, strict=True))
        busy = max(0.0, total - idle - steal)
        reading["cpu_busy"] = busy / total
        reading["cpu_foreign"] = max(0.0, busy - own) / total
        reading["cpu_steal"] = max(0.0, steal) / total
        reading["swap_traffic_mb"] = swap / 1e6


class GpuSensors:
    """One GPU through NVML. `nvml` is the module (a fake in tests), already initialised."""

    def __init__(self, nvml: Any, uuid: str, own_pids: Callable[[], set[int]]) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._own_pids = own_pids

    def read(self) -> Reading:
        """One reading; for PCIe throughput NVML sleeps 20 ms in each direction."""
        n, handle = self._nvml, self._handle
        queries: dict[str, Callable[[], float]] = {
            "sm_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM),
            "memory_mhz": lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM),
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
            "foreign_processes": lambda: float(len(self._foreign())),
        }
        reading: Reading = {}
        for name, query in queries.items():
            with contextlib.suppress(n.NVMLError, AttributeError):
                reading[name] = float(query())
        return reading

    def _pcie(self, counter: int) -> float:
        kilobytes: float = self._nvml.nvmlDeviceGetPcieThroughput(self._handle, counter)
        return kilobytes * 1e3 / 1e9

    def _foreign(self) -> set[int]:
        processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return {process.pid for process in processes} - self._own_pids()


def decode_throttle_reasons(mask: int) -> list[str]:
    """Names of the throttle reasons in an NVML clock-event mask."""
    return [name for bit, name in THROTTLE_REASONS.items() if mask & bit]
