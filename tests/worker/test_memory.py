"""Peak device memory is the pipeline's, without the eager reference of the output check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from numa_bench.worker import measurement
from numa_bench.worker.devices import Device
from numa_bench.worker.measurement import measure_run
from numa_bench.worker.output_checks import OutputCheck
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from tests.simulation.links import Links
from tests.simulation.timing import TimingRuntime
from tests.specs import VIT, make_spec

#: Bytes that the reference of the check is made to need, far more than the tiny pipeline.
REFERENCE = 400_000_000


@pytest.mark.slow
def test_peak_memory_excludes_the_reference_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime: Any = TimingRuntime(Links())  # its events are narrower than the protocol's
    device = Device(runtime.device, runtime, "simulated")
    peaks: list[float] = []

    def check(*_: object) -> OutputCheck:
        held = runtime.empty((REFERENCE // 4,), torch.float32)
        peaks.append(runtime.peak_memory_bytes())
        del held
        return OutputCheck(0.0, "")

    monkeypatch.setattr(measurement, "check_output", check)
    monkeypatch.setattr(measurement, "prepare_device", lambda _: device)

    # Stages by themselves are timed after the memory was read.
    monkeypatch.setattr(CudaPipeline, "time_stages", lambda _: None)
    metrics: dict[str, float | None] = {}
    for part in measure_run(make_spec(vit=VIT, kind="cuda"), trace=Path("unused")):
        metrics |= part.metrics

    assert max(peaks) >= REFERENCE
    peak = metrics["peak_device_memory_mb"]
    assert peak is not None
    assert 0 < peak < REFERENCE / 1e6 / 2
