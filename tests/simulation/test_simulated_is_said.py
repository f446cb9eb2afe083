"""What comes from a simulated machine says so, wherever a figure of it is shown."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import MachineError
from numa_bench.machine.backend import current_backend
from numa_bench.machine.environment import describe_environment
from numa_bench.machine.sensors import GpuSensors
from numa_bench.machine.topology import discover_topology
from numa_bench.marks import format_legend, format_marks
from numa_bench.profiling.launch import find_profiler
from numa_bench.records import DeviceSpec
from numa_bench.runner import conditions
from numa_bench.runner.conditions import check_conditions
from numa_bench.runner.monitor import Monitor
from tests.analyses import analysed, reported
from tests.simulation.machine import dual_socket_4_gpus
from tests.specs import make_spec

SAID = "a simulated machine, its times are made up"


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process on a simulated machine."""
    for name, value in dual_socket_4_gpus().install(tmp_path).items():
        monkeypatch.setenv(name, value)
    current_backend.cache_clear()
    yield
    current_backend.cache_clear()


def test_a_real_environment_does_not_mention_it(tmp_path: Path) -> None:
    assert "simulated" not in describe_environment(tmp_path)


@pytest.mark.usefixtures("simulated")
def test_the_environment_says_it_and_is_another(tmp_path: Path) -> None:
    topology = discover_topology()
    environment = describe_environment(tmp_path, topology)

    assert environment["simulated"] == SAID
    del os.environ["NUMA_BENCH_BACKEND"]
    current_backend.cache_clear()
    assert describe_environment(tmp_path, topology)["id"] != environment["id"]


@pytest.mark.usefixtures("simulated")
def test_the_conditions_say_it_and_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "_swap", lambda: ["swap of this machine"])
    monkeypatch.setattr(conditions, "_load", lambda: ["load of this machine"])

    assert check_conditions([make_spec()], discover_topology()) == [
        f"nothing here is a measurement: {SAID}"
    ]


@pytest.mark.usefixtures("simulated")
def test_the_monitor_reads_no_sensor_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = dual_socket_4_gpus().gpus[2]
    spec = replace(make_spec(), device=DeviceSpec("cuda", 2, gpu.name, gpu.uuid, gpu.node))
    read = threading.Event()
    original = GpuSensors.read

    def noted(self: GpuSensors) -> dict[str, float]:
        try:
            return original(self)
        finally:
            read.set()

    monkeypatch.setattr(GpuSensors, "read", noted)
    with Monitor(spec, tmp_path / "monitor.json", 60.0) as watching:
        watching.start_sampling(os.getpid())
        assert read.wait(60)

    (reading,) = watching.readings
    assert reading["sm_mhz"] == 1980
    assert not {"cpu_busy", "cpu_foreign", "load_1m", "memory_available_mb"} & set(reading)


@pytest.mark.usefixtures("simulated")
def test_nsys_is_not_asked() -> None:
    assert find_profiler(ProfilerConfig(kind="auto"), probe=True).kind == "none"
    with pytest.raises(MachineError, match="nothing that nsys could record"):
        find_profiler(ProfilerConfig(kind="nsys"), probe=True)


def test_its_mark_has_a_legend() -> None:
    warning = f"simulated: {SAID}"
    assert format_marks([warning]) == "X"
    assert "not a measurement" in format_legend([warning])[0]


@pytest.mark.slow
def test_the_report_says_it_first() -> None:
    report, runs = reported("simulated"), len(analysed("simulated").loaded.frame)

    said = f"Not a measurement: {runs} of {runs} runs are of {SAID}."
    assert json.loads(report.verdict.read_text())["simulated"] == [said]
    page = report.page.read_text()
    assert page.index(said) < page.index(analysed("simulated").study_verdicts[0].text)
    assert "Not a measurement" not in reported("one_gpu").page.read_text()
