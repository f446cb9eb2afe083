"""A stand-in for pynvml that also answers for a GPU's clocks, link and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from tests.fake_sysfs import FakeGpu, FakeNvml, NvmlError

UUID = "GPU-00000000-0000-0000-0000-000000000000"


@dataclass
class GpuState:
    """What the fake answers. A field that is None is a query this GPU does not support."""

    sm_mhz: int | None = 1980
    power_mw: int | None = 350_000
    temperature: int | None = 41
    busy: int | None = 0
    reasons: int | None = 0
    link: tuple[int, int] | None = (5, 16)
    max_width: int | None = 16
    capability: tuple[int, int] | None = (9, 0)
    memory_bytes: int | None = 85_520_809_984
    pids: Sequence[int] = ()
    persistence: int | None = 1


class FakeGpuNvml(FakeNvml):
    """GPUs, by default one, that share the state that the test sets."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1

    def __init__(
        self, state: GpuState, gpus: Sequence[FakeGpu] | None = None, **others: Any
    ) -> None:
        super().__init__([FakeGpu("0000:3b:00.0", uuid=UUID)] if gpus is None else gpus, **others)
        self.state = state

    def _answer(self, value: Any) -> Any:
        assert self.open == 1, "asked outside of nvmlInit and nvmlShutdown"
        if value is None:
            raise NvmlError("Not Supported")
        return value

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802 - NVML's names
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return gpu
        raise NvmlError("Not Found")

    def nvmlDeviceGetIndex(self, handle: FakeGpu) -> int:  # noqa: N802
        return self.gpus.index(handle)

    def nvmlDeviceGetClockInfo(self, _: FakeGpu, kind: int) -> Any:  # noqa: N802
        return self._answer(self.state.sm_mhz if kind == self.NVML_CLOCK_SM else 3201)

    def nvmlDeviceGetPowerUsage(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.power_mw)

    def nvmlDeviceGetTemperature(self, _: FakeGpu, __: int) -> Any:  # noqa: N802
        return self._answer(self.state.temperature)

    def nvmlDeviceGetUtilizationRates(self, _: FakeGpu) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._answer(self.state.busy), memory=7)

    def nvmlDeviceGetPcieThroughput(self, _: FakeGpu, counter: int) -> Any:  # noqa: N802
        return self._answer(2_000_000 if counter == self.NVML_PCIE_UTIL_RX_BYTES else 1_000_000)

    def nvmlDeviceGetCurrPcieLinkGeneration(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.link and self.state.link[0])

    def nvmlDeviceGetCurrPcieLinkWidth(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.link and self.state.link[1])

    def nvmlDeviceGetMaxPcieLinkGeneration(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(5)

    def nvmlDeviceGetCudaComputeCapability(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.capability)

    def nvmlDeviceGetMemoryInfo(self, _: FakeGpu) -> Any:  # noqa: N802
        return SimpleNamespace(total=self._answer(self.state.memory_bytes))

    def nvmlDeviceGetMaxPcieLinkWidth(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.max_width)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.reasons)

    def nvmlDeviceGetComputeRunningProcesses(self, _: FakeGpu) -> Any:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.state.pids]

    def nvmlDeviceGetPersistenceMode(self, _: FakeGpu) -> Any:  # noqa: N802
        return self._answer(self.state.persistence)
