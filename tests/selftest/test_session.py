"""Which GPU and which node are measured, and what is known not to work."""

from __future__ import annotations

import json

import pytest

from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.model import Topology
from numa_bench.records import DeviceSpec
from numa_bench.selftest import session as session_module
from numa_bench.selftest.session import (
    Session,
    choose_placement,
    explain_no_gpu,
    plan_session,
    select_gpu,
)
from tests.machines import laptop, make_gpu, server
from tests.selftest.contexts import BOUND


def test_a_session_survives_the_way_between_processes() -> None:
    session = Session(BOUND, server().gpus, 2, gpu_problem="GPU 5: old driver", full=True)

    assert Session.from_dict(json.loads(json.dumps(session.to_dict()))) == session
    assert session.device.gpu_uuid == server().gpus[2].uuid
    assert Session(BOUND, server().gpus).device == DeviceSpec("cpu")


def test_a_gpu_is_chosen_by_number_or_uuid() -> None:
    gpus = server().gpus

    assert select_gpu(gpus, None) == gpus[0]
    assert select_gpu(gpus, "5") == gpus[5]
    assert select_gpu(gpus, gpus[3].uuid) == gpus[3]
    assert select_gpu((), None) is None
    with pytest.raises(ConfigError, match="--gpu=9: no such GPU is visible; visible: 0, 1"):
        select_gpu(gpus, "9")


def test_the_process_is_bound_to_the_node_of_its_gpu() -> None:
    machine = server()

    placement = choose_placement(machine, machine.gpus[6])

    assert (placement.numa_node, placement.memory_nodes, placement.policy) == (2, (2,), "bind")


def test_a_gpu_of_unknown_node_is_measured_from_the_first() -> None:
    machine = Topology(server().nodes, (make_gpu(0, -1),))

    assert choose_placement(machine, machine.gpus[0]).numa_node == 0
    assert choose_placement(laptop(), None).memory_nodes == (0,)


def test_a_machine_without_cpu_nodes_is_an_error() -> None:
    with pytest.raises(MachineError, match="no NUMA node has CPUs"):
        choose_placement(Topology((), ()), None)


def test_a_refused_binding_is_kept_and_nothing_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise MachineError("numactl is not installed; install it")

    monkeypatch.setattr(session_module, "check_binding", refuse)

    session = plan_session(laptop(), None, full=False)

    assert session.unbound == "numactl is not installed; install it"
    assert not session.placement.bound


@pytest.mark.parametrize(("broken", "measured"), [(0, None), (5, 0)])
def test_a_gpu_that_torch_cannot_use(
    broken: int, measured: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The selftest then checks the CPU if it is the one to measure, else the GPU all the same."""

    def probe(devices: list[DeviceSpec]) -> None:
        if any(device.gpu_id == broken for device in devices):
            raise MachineError(f"GPU {broken}: needs driver 580")

    monkeypatch.setattr(session_module, "check_gpus", lambda devices: probe(list(devices)))
    monkeypatch.setattr(session_module, "check_binding", lambda _: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    session = plan_session(server(), None, full=False)

    assert session.gpu_problem == f"GPU {broken}: needs driver 580"
    assert session.gpu_id == measured


def test_why_there_is_no_gpu() -> None:
    assert "CUDA_VISIBLE_DEVICES" in explain_no_gpu(server())
    noted = Topology(laptop().nodes, (), notes=("SMT is off", "no GPUs: no driver"))
    assert explain_no_gpu(noted) == "no GPUs: no driver"
