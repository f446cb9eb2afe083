"""What is sampled beside a run, what is left out, and what the summary says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.machine.sensors import GpuSensors, SystemSensors, decode_throttle_reasons
from numa_bench.records import DeviceSpec, RunSpec
from numa_bench.runner import monitor as module
from numa_bench.runner.monitor import Monitor, summarise_readings
from tests.fake_gpu_state import UUID, FakeGpuNvml, GpuState
from tests.specs import make_spec


@pytest.fixture
def busy_child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that uses a CPU until it is stopped."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield child
    child.kill()
    child.wait()


def gpu_spec() -> RunSpec:
    return replace(make_spec(), device=DeviceSpec("cuda", 0, "H100", UUID, 0))


@contextmanager
def watched(spec: RunSpec, path: Path, readings: int, **others: object) -> Iterator[Monitor]:
    """A monitor of this process that has taken so many readings."""
    enough = threading.Event()
    with Monitor(spec, path, 0.001, **others) as monitor:  # type: ignore[arg-type]
        honest = monitor.readings

        class Counting(list):  # type: ignore[type-arg]
            def append(self, reading: object) -> None:
                super().append(reading)
                if len(self) >= readings:
                    enough.set()

        monitor.readings = Counting(honest)
        monitor.start_sampling(os.getpid())
        assert enough.wait(60), "the monitor took no readings"
        yield monitor


def test_a_series_is_kept_with_one_value_per_moment(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x" / "monitor.json"
    with watched(make_spec(), path, 3) as monitor:
        pass
    monitor.save_readings()
    data = json.loads(path.read_text())
    assert len(data["monotonic_s"]) >= 3
    assert data["monotonic_s"] == sorted(data["monotonic_s"])
    assert {len(column) for column in data["series"].values()} == {len(data["monotonic_s"])}
    assert data["monitor_cpu_s"] > 0
    assert data["series"]["memory_available_mb"][0] > 0


def test_rates_need_two_readings(busy_child: subprocess.Popen[bytes]) -> None:
    sensors = SystemSensors((), busy_child.pid)
    assert "cpu_foreign" not in sensors.read()


def test_foreign_load_is_what_the_worker_did_not_use(
    monkeypatch: pytest.MonkeyPatch, busy_child: subprocess.Popen[bytes]
) -> None:
    """100 ticks passed on CPU 0: 10 idle, 5 stolen, 60 the worker's, so 25 somebody else's."""
    import psutil

    cpu = psutil.cpu_times(percpu=True)[0]
    zero = cpu._replace(**dict.fromkeys(cpu._fields, 0.0))
    later = zero._replace(user=85.0, idle=10.0, steal=5.0)
    own = iter([(0.0, 0.0), (50.0, 10.0)])
    machine = iter([[zero, zero], [later, zero]])
    sensors = SystemSensors((0,), busy_child.pid)
    monkeypatch.setattr(psutil, "cpu_times", lambda **_: next(machine))
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: next(own))
    sensors.read()
    reading = sensors.read()
    assert reading["cpu_busy"] == pytest.approx(0.85)
    assert reading["cpu_foreign"] == pytest.approx(0.25)
    assert reading["cpu_steal"] == pytest.approx(0.05)


def test_a_gpu_is_read_in_the_units_of_the_names() -> None:
    nvml = FakeGpuNvml(GpuState(busy=50, reasons=0x4, pids=[1, 2]))
    nvml.nvmlInit()
    reading = GpuSensors(nvml, UUID, lambda: {2}).read()
    assert reading["power_w"] == 350.0
    assert reading["gpu_busy"] == 0.5
    assert reading["pcie_rx_gb_per_s"] == 2.0
    assert reading["foreign_processes"] == 1
    assert reading["throttle_reasons"] == 4
    assert (reading["pcie_generation"], reading["pcie_width"]) == (5, 16)


def test_a_missing_sensor_is_absent_not_zero(tmp_path: Path) -> None:
    nvml = FakeGpuNvml(GpuState(power_mw=None, temperature=None))
    with watched(gpu_spec(), tmp_path / "m.json", 2, nvml=nvml) as monitor:
        pass
    series = monitor.to_dict()["series"]
    assert "sm_mhz" in series
    assert "power_w" not in series
    assert "temperature_c" not in series
    assert nvml.open == 0


def test_a_broken_driver_costs_the_gpu_sensors_only(tmp_path: Path) -> None:
    nvml = FakeGpuNvml(GpuState(), init_error="Driver Not Loaded")
    with watched(gpu_spec(), tmp_path / "m.json", 2, nvml=nvml) as monitor:
        pass
    series = monitor.to_dict()["series"]
    assert "sm_mhz" not in series
    assert "memory_available_mb" in series


def test_an_interval_of_zero_switches_it_off(tmp_path: Path) -> None:
    with Monitor(make_spec(), tmp_path / "m.json", 0.0) as monitor:
        monitor.start_sampling(os.getpid())
    monitor.save_readings()
    assert not (tmp_path / "m.json").exists()


def test_a_full_disk_does_not_cost_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with watched(make_spec(), tmp_path / "m.json", 1) as monitor:
        pass
    monkeypatch.setattr(module, "write_json", full)
    monitor.save_readings()
    assert monitor.readings


def test_the_summary_is_of_the_window() -> None:
    monitor = Monitor(make_spec(), Path("unused"), 1.0)
    monitor.times = [1.0, 2.0, 3.0, 4.0]
    monitor.readings = [{"sm_mhz": v} for v in (100.0, 1900.0, 1980.0, 50.0)]
    assert monitor.summarise_window((1.5, 3.5))["sm_mhz"] == {
        "min": 1900,
        "median": 1940,
        "max": 1980,
    }
    assert monitor.summarise_window(None)["sm_mhz"]["min"] == 50
    assert monitor.summarise_window((10.0, 11.0))["sm_mhz"]["min"] == 50


def test_throttle_masks_are_joined_not_compared() -> None:
    found = summarise_readings([{"throttle_reasons": 4.0}, {"throttle_reasons": 32.0}])
    assert decode_throttle_reasons(int(found["throttle_reasons"]["max"])) == [
        "power cap",
        "thermal (software)",
    ]


def test_it_moves_to_cpus_that_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: moved.append(set(cpus)))
    module._move_away((0, 1))
    module._move_away((0, 1, 2, 3))
    module._move_away(())
    assert moved == [{2, 3}]
