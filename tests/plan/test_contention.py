"""Which sets a contention study consists of, and where their workers go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from numa_bench.errors import NumaBenchError
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan
from numa_bench.records import RunSpec
from tests.machines import four_nodes, laptop, server, unknown_gpu
from tests.simulation.sharing import Flow, share_fairly

Plans = Callable[..., Plan]
STUDY = "experiment=contention_study"
LIGHT = "experiment.vit_configs=[{depth:0}]"


@pytest.fixture
def sets(plan: Plans) -> Callable[..., dict[str, list[RunSpec]]]:
    """The sets of a study by scenario and load."""

    def planned(topology: Topology, *overrides: str) -> dict[str, list[RunSpec]]:
        found: dict[str, list[RunSpec]] = {}
        for cell in plan(topology, STUDY, LIGHT, *overrides).cells:
            found.setdefault(f"{cell.scenario} {cell.background}", []).append(cell)
        return found

    return planned


def places(spec: RunSpec) -> list[tuple[Any, ...]]:
    """CPU node and memory nodes of each measured worker."""
    found = [member.spec.placement for member in spec.measured]
    return [(place.numa_node, *place.memory_nodes) for place in found]


def test_every_scenario_on_two_sockets(sets: Callable[..., dict[str, list[RunSpec]]]) -> None:
    found = sets(server())

    assert {name: len(cells) for name, cells in found.items()} == {
        "alone none": 8,
        "alone_remote none": 8,
        "socket none": 2,
        "all_local none": 1,
        "all_remote none": 1,
        "crossed none": 1,
    }
    assert places(found["all_local none"][0]) == [(0, 0)] * 4 + [(2, 2)] * 4
    assert places(found["all_remote none"][0]) == [(2, 2)] * 4 + [(0, 0)] * 4
    assert places(found["crossed none"][0]) == [(0, 2)] * 4 + [(2, 0)] * 4
    assert [places(cell) for cell in found["socket none"]] == [[(0, 0)] * 4, [(2, 2)] * 4]
    assert [c.placement.label for c in found["all_remote none"]] == ["remote"]


def test_run_ids_name_scenario_workers_and_load(plan: Plans) -> None:
    runs = plan(
        server(),
        STUDY,
        LIGHT,
        "experiment.repeats=1",
        "experiment.order=sequential",
        "experiment.contention.scenarios=[alone,all_remote]",
        "experiment.contention.background=[none,socket_link]",
    ).runs
    names = [run.run_id.rpartition("-")[0] for run in runs]

    assert names[:2] == ["alone_gpu0_vit32x0_r0", "alone_gpu0_socket-link-load_vit32x0_r0"]
    assert names[-2:] == [
        "all-remote_8gpus_vit32x0_r0",
        "all-remote_8gpus_socket-link-load_vit32x0_r0",
    ]
    assert runs[-1].members[0].spec.run_id == f"{runs[-1].run_id}.gpu0"


def test_load_has_cpus_of_its_own(sets: Callable[..., dict[str, list[RunSpec]]]) -> None:
    found = sets(server(), "experiment.contention.background=[none,memory]")

    for name in ("all_local none", "all_local memory"):
        (spec,) = found[name]
        measured = {c for m in spec.measured for c in m.spec.placement.cpus}
        assert len(measured) == 2 * 46
        loads = [m.spec for m in spec.members if m.role == "background"]
        assert len(loads) == (2 if name.endswith("memory") else 0)
        assert not measured & {c for load in loads for c in load.placement.cpus}
    assert [len(c.members) for c in found["alone memory"]] == [2] * 8


def test_cpu_workers_share_a_node_without_sharing_cpus(
    sets: Callable[..., dict[str, list[RunSpec]]],
) -> None:
    found = sets(four_nodes(), "experiment.hardware.device=cpu")

    (spec,) = found["all_remote none"]
    assert places(spec)[::4] == [(0, 2), (1, 3), (2, 0), (3, 1)]
    cpus = [cpu for member in spec.measured for cpu in member.spec.placement.cpus]
    assert sorted(cpus) == list(range(16))
    assert {member.spec.stream.threads for member in spec.measured if member.spec.stream} == {1}


def test_a_laptop_says_what_it_cannot_form(plan: Plans) -> None:
    planned = plan(laptop(), STUDY)

    assert [cell.scenario for cell in planned.cells] == ["alone", "socket"]
    text = "\n".join(planned.warnings)
    assert "scenario all_remote is left out: this machine has one node" in text
    assert "scenario all_local is left out: it is the same as socket here" in text


@pytest.mark.parametrize(
    ("topology", "override", "named"),
    [
        (laptop, "experiment.contention.scenarios=[all_remote]", "can form none of them"),
        (laptop, "experiment.contention.background=[socket_link]", "this machine has one socket"),
        (laptop, "experiment.contention.workers_per_node=5", "node 0 has 4 CPUs for them"),
        (unknown_gpu, "experiment.repeats=1", "^the kernel does not know GPU 0's node .*gpu_ids$"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    plan: Plans, topology: Callable[[], Topology], override: str, named: str
) -> None:
    with pytest.raises(NumaBenchError, match=named):
        plan(topology(), STUDY, override)


@pytest.mark.parametrize(
    ("demands", "wanted"),
    [
        # One needs less than its share of 12, so the others get more.
        ([2.0, 9.0, 9.0], [2.0, 5.0, 5.0]),
        ([4.0, 4.0], [4.0, 4.0]),
    ],
)
def test_simulated_shares_are_fair(demands: Sequence[float], wanted: list[float]) -> None:
    flows = [Flow(most, frozenset({"link"})) for most in demands]

    assert share_fairly(flows, {"link": 12.0}) == pytest.approx(wanted)
