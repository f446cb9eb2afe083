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

from numa_bench.machine.sensors import (
    ForeignProcesses,
    GpuSensors,
    SystemSensors,
    decode_throttle_reasons,
    is_host_pid_namespace,
    uses_gpu,
)
from numa_bench.records import DeviceSpec, RunSpec
from numa_bench.runner import monitor as module
from numa_bench.runner.monitor import Monitor, summarise_readings
from tests.fake_gpu_state import UUID, FakeGpuNvml, GpuState
from tests.fake_sysfs import NvmlError
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


# The worker's number is 2 here, its child's is 3.


@pytest.mark.parametrize(
    ("on_host", "before", "pids", "foreign"),
    [
        (True, None, {2}, 0),
        (True, None, {2, 3, 9}, 1),
        (True, None, set(), 0),
        (True, None, {9}, 1),
        # The host's numbers: 7001 is the worker, and what was there before it is not.
        (False, set(), {7001}, 0),
        (False, {6000}, {6000, 7001}, 1),
        (False, {6000}, {7001}, 0),
        (False, set(), {7001, 7002}, 1),
        # A driver that translates names the worker as it is named here.
        (False, {9}, {2, 9}, 1),
        (False, None, {2, 3}, 0),
        # Nothing that came with the worker, or a worker that was there first: nobody can say.
        (False, set(), set(), None),
        (False, None, {7001}, None),
        (False, {6000}, {6000}, 1),
    ],
)
def test_whose_processes_are_on_the_gpu(
    on_host: bool, before: set[int] | None, pids: set[int], foreign: int | None
) -> None:
    assert ForeignProcesses(before, lambda: {2, 3}, on_host=on_host).count(pids) == foreign


def test_the_worker_in_a_container_does_not_mark_its_own_run() -> None:
    state = GpuState(pids=[])
    nvml = FakeGpuNvml(state)
    nvml.nvmlInit()
    sensors = GpuSensors(nvml, UUID, lambda: {os.getpid()}, on_host=False)

    assert sensors.read()["foreign_unknown"] == 1
    state.pids = [4_194_000]  # the worker's context, under its number on the host
    reading = sensors.read()

    assert reading["foreign_processes"] == 0
    assert "foreign_unknown" not in reading


def test_the_family_is_looked_up_only_for_new_numbers() -> None:
    looks: list[int] = []

    def family() -> set[int]:
        looks.append(1)
        return {2}

    processes = ForeignProcesses(set(), family, on_host=True)
    for pids in ({2}, {2}, {2, 9}, {2, 9}):
        processes.count(pids)
    assert len(looks) == 2


def test_the_hosts_numbers_are_known_by_the_namespace(tmp_path: Path) -> None:
    """The host's namespace has a fixed inode, which no file of a test can have."""
    assert not is_host_pid_namespace(tmp_path)
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()
    assert not is_host_pid_namespace(tmp_path)


def test_a_process_with_a_device_file_uses_the_gpu(tmp_path: Path) -> None:
    for pid, target in ((7, "/dev/null"), (8, "/dev/nvidia-uvm")):
        (tmp_path / f"{pid}/fd").mkdir(parents=True)
        (tmp_path / f"{pid}/fd/3").symlink_to(target)

    assert not uses_gpu({7, 9}, tmp_path)
    assert uses_gpu({7, 8}, tmp_path)


def test_queries_that_are_not_permitted_are_left_out() -> None:
    """As for a user without rights in a container: processes and power are the driver's secret."""

    class Restricted(FakeGpuNvml):
        def nvmlDeviceGetComputeRunningProcesses(self, _: object) -> object:  # noqa: N802
            raise NvmlError("Insufficient Permissions")

    nvml = Restricted(GpuState(power_mw=None))
    nvml.nvmlInit()

    reading = GpuSensors(nvml, UUID, lambda: {2}, on_host=False).read()

    assert reading["sm_mhz"] == 1980
    assert not {"foreign_processes", "foreign_unknown", "power_w"} & reading.keys()


def test_cpu_clocks_are_read_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a CPU's clock interrupts it."""
    import psutil

    now = iter([100.0, 100.2, 101.1])
    reads: list[int] = []
    monkeypatch.setattr("numa_bench.machine.sensors.time.monotonic", lambda: next(now))
    monkeypatch.setattr(psutil, "cpu_freq", lambda: reads.append(1))
    sensors = SystemSensors((), os.getpid())
    for _ in range(3):
        sensors.read()
    assert len(reads) == 2


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
    summary = monitor.summarise_window((1.5, 3.5))
    assert summary is not None
    assert summary["sm_mhz"] == {"min": 1900, "median": 1940, "max": 1980}


@pytest.mark.parametrize("window", [None, (10.0, 11.0), (2.1, 2.9)])
def test_readings_outside_the_window_do_not_stand_in_for_it(
    window: tuple[float, float] | None,
) -> None:
    monitor = Monitor(make_spec(), Path("unused"), 1.0)
    monitor.times, monitor.readings = [1.0, 2.0, 3.0], [{"sm_mhz": 1980.0}] * 3

    assert monitor.summarise_window(window) is None
    assert monitor.count_readings(window) == 0


def test_a_monitor_that_is_off_misses_no_reading() -> None:
    assert Monitor(make_spec(), Path("unused"), 0.0).summarise_window((1.0, 2.0)) == {}


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
    module.move_away((0, 1))
    module.move_away((0, 1, 2, 3))
    module.move_away(())
    assert moved == [{2, 3}]
