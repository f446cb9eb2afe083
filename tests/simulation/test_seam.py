"""Every place that looks at the hardware looks at the simulated machine, by NUMA_BENCH_BACKEND."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.machine.backend import current_backend
from numa_bench.machine.environment import describe_environment
from numa_bench.machine.nvml import open_nvml, read_driver_versions
from numa_bench.machine.page_placement import observe_placement
from numa_bench.machine.topology import discover_topology
from numa_bench.records import DeviceSpec, Placement, RunSpec
from numa_bench.runner.conditions import check_conditions
from numa_bench.runner.gpu_check import run_probe
from numa_bench.runner.monitor import Monitor
from numa_bench.worker.devices import prepare_device
from tests.conftest import PROJECT
from tests.simulation.machine import SimulatedMachine, dual_socket_4_gpus
from tests.specs import make_spec

MACHINE = dual_socket_4_gpus()
GPU = MACHINE.gpus[3]
DEVICE = DeviceSpec("cuda", 3, GPU.name, GPU.uuid, GPU.node)


@pytest.fixture(autouse=True)
def machine(simulate: Callable[[SimulatedMachine], None]) -> None:
    """Four nodes with a GPU each."""
    simulate(MACHINE)


def gpu_run() -> RunSpec:
    """A run on GPU 3 that is bound to its node, whose CPUs this host need not have."""
    bound = Placement(3, (3,), "bind", "local", cpus=(12, 13, 14, 15))
    return replace(make_spec(placement=bound, kind="cuda"), device=DEVICE)


def test_topology_and_environment() -> None:
    topology = discover_topology()
    environment = describe_environment(PROJECT, topology)

    assert [gpu.uuid for gpu in topology.gpus] == [gpu.uuid for gpu in MACHINE.gpus]
    assert environment["numa_nodes"] == [0, 1, 2, 3]
    assert len(environment["gpus"]) == 4
    assert environment["nvidia_driver"] == read_driver_versions()[0] == "580.00.00"


def test_nvml() -> None:
    with open_nvml() as nvml:
        assert nvml.nvmlDeviceGetCount() == 4


def test_conditions() -> None:
    governor = current_backend().root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("powersave\n")
    lines = check_conditions([gpu_run()], discover_topology())

    assert [line for line in lines if line.startswith("CPU governor is powersave on 1 CPUs")]
    assert not [line for line in lines if "GPU" in line]


def test_the_monitors_sensors(tmp_path: Path) -> None:
    monitor = Monitor(gpu_run(), tmp_path / "monitor.json", interval_s=0.01)
    with monitor:
        monitor.start_sampling(os.getpid())
        for _ in range(1_000_000):
            if monitor.readings:
                break
            os.sched_yield()

    assert {name for name in monitor.readings[0] if name.startswith("gpu_")}


def test_the_workers_device() -> None:
    device = prepare_device(make_spec(kind="cuda"))

    assert device.runtime is not None
    assert device.runtime.properties().uuid == MACHINE.gpus[0].uuid
    assert observe_placement([(0, 4096)])["method"] == "simulated"


@pytest.mark.slow
def test_the_gpu_check_and_its_probe() -> None:
    probe = run_probe(DEVICE, os.environ)

    assert (probe.uuid, probe.error) == (GPU.uuid, None)
