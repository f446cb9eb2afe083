"""Warnings before a study: each says what is wrong and what to do, and silence means none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from numa_bench.errors import MachineError
from numa_bench.machine.model import NumaNode, Topology
from numa_bench.records import DeviceSpec, Placement, RunSpec
from numa_bench.runner import conditions
from numa_bench.runner.conditions import check_conditions, needed_mb, node_memory, refuse_excess
from tests.fake_gpu_state import UUID, FakeGpuNvml, GpuState
from tests.fake_sysfs import write
from tests.specs import make_spec


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No swap in use and no load, whatever this machine does."""
    monkeypatch.setattr(conditions, "_swap", list)
    monkeypatch.setattr(conditions, "_load", list)


def bound(node: int, **test: Any) -> RunSpec:
    return make_spec(placement=Placement(node, (node,), "bind", "local"), **test)


def machine(free_mb: int) -> Topology:
    node = NumaNode(1, (0,), 2_000_000_000, {1: 10}, memory_free_bytes=free_mb * 1_000_000)
    return Topology((node,), ())


def on_gpu() -> RunSpec:
    return replace(make_spec(), device=DeviceSpec("cuda", 0, "H100", UUID, 0))


def gpu_lines(state: GpuState, tmp_path: Path) -> list[str]:
    return check_conditions([on_gpu()], Topology((), ()), tmp_path, FakeGpuNvml(state))


@pytest.mark.usefixtures("quiet")
def test_a_machine_in_order_has_none(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")
    write(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "1")
    assert gpu_lines(GpuState(), tmp_path) == []


@pytest.mark.usefixtures("quiet")
def test_governor_and_turbo(tmp_path: Path) -> None:
    for cpu in range(3):
        name = "powersave" if cpu else "performance"
        write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", name)
    write(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "0")
    governor, turbo = check_conditions([], Topology((), ()), tmp_path)
    assert "powersave on 2 CPUs" in governor
    assert "cpupower frequency-set -g performance" in governor
    assert "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo" in turbo


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (GpuState(busy=80), "80 % busy"),
        (GpuState(pids=[4321]), "4321"),
        (GpuState(persistence=0), "nvidia-smi -pm 1"),
        (GpuState(link=(5, 8)), "x8 of x16"),
    ],
)
@pytest.mark.usefixtures("quiet")
def test_gpu(state: GpuState, expected: str, tmp_path: Path) -> None:
    (line,) = gpu_lines(state, tmp_path)
    assert line.startswith("GPU 0")
    assert expected in line


@pytest.mark.usefixtures("quiet")
def test_what_a_gpu_does_not_answer_is_left_out(tmp_path: Path) -> None:
    silent = GpuState(busy=None, persistence=None, link=None, max_width=None)
    assert gpu_lines(silent, tmp_path) == []


def test_a_node_with_too_little_free_memory() -> None:
    need = needed_mb(bound(1))
    (line,) = node_memory([bound(1)], machine(int(need) - 1))
    assert line.startswith("node 1 has")
    assert node_memory([bound(1)], machine(int(need) + 1)) == []


def test_memory_that_is_not_bound_is_not_checked() -> None:
    assert node_memory([make_spec()], machine(0)) == []


def test_need_grows_with_pool_batch_and_weights() -> None:
    base = needed_mb(bound(1))
    assert needed_mb(bound(1, memory_size_mb=1001)) == base + 2000  # of input and of output
    assert needed_mb(bound(1, batch_size=64)) > base
    large = replace(bound(1), vit=replace(bound(1).vit, depth=12, dim=1024, mlp_dim=4096))
    assert needed_mb(large) > base + 100


def test_swap_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    class Used:
        used = 300_000_000

    monkeypatch.setattr(psutil, "swap_memory", Used)
    (line,) = conditions._swap()
    assert "300 MB" in line
    assert "swapoff" in line


def test_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (7.5, 1.0, 1.0))
    (line,) = conditions._load()
    assert "7.5" in line


def test_what_no_memory_of_the_machine_holds_is_refused() -> None:
    refuse_excess([bound(1), bound(1, memory_size_mb=900)], machine(0))

    with pytest.raises(MachineError, match=r"a run of tiny needs at least \d+ MB.* has 2000 MB"):
        refuse_excess([bound(1), bound(1, batch_size=2**31 - 1)], machine(0))
