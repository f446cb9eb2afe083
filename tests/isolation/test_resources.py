"""Which locks a run needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from numa_bench.isolation.resources import list_locks
from numa_bench.records import MEASURED, DeviceSpec, Member, Placement, RunSpec
from tests.fake_worker import TOPOLOGY
from tests.specs import make_spec

GPU = DeviceSpec("cuda", 1, "H100", "GPU-b/1", 1)
OTHER = DeviceSpec("cuda", 0, "H100", "GPU-c", 0)
BOTH = ("node0", "node1")
UNBOUND = Placement(None, (), "none", "unbound")


def spec_on(
    node: int | None, *memory: int, device: DeviceSpec | None = None, cpus: tuple[int, ...] = ()
) -> RunSpec:
    place = Placement(node, memory, "bind", "local", cpus)
    return replace(make_spec(), placement=place, device=device or DeviceSpec("cpu"))


@pytest.mark.parametrize(
    ("spec", "exclusive", "wanted"),
    [
        (spec_on(0, 0), "host", ["node0"]),
        (spec_on(1, 0), "gpu", ["node0", "node1"]),
        (spec_on(None, 1), "node", ["node0", "node1"]),
        (replace(spec_on(0), placement=UNBOUND), "gpu", ["node0", "node1"]),
        (spec_on(0, 0, cpus=(1, 2)), "node", ["node0", "node1"]),
        (spec_on(None, 1, cpus=(2,)), "node", ["node1"]),
        (spec_on(0, 0, device=GPU), "gpu", ["gpu-b_1"]),
        (spec_on(0, 0, device=GPU), "node", ["gpu-b_1", "node0", "node1"]),
        (spec_on(0, 0, device=GPU), "host", ["gpu-b_1", "node0", "node1"]),
        (spec_on(0, 0, device=replace(GPU, others=(OTHER,))), "gpu", ["gpu-b_1", "gpu-c"]),
        (spec_on(1, 1, device=replace(GPU, others=(OTHER,))), "node", ["gpu-b_1", "gpu-c", *BOTH]),
        (
            spec_on(0, 0, device=DeviceSpec("cuda", 2, None, None, -1)),
            "node",
            ["gpu-number2", "node0"],
        ),
    ],
)
def test_locks_of_a_run(spec: RunSpec, exclusive: str, wanted: list[str]) -> None:
    assert list_locks(spec, exclusive, TOPOLOGY) == wanted


def test_a_set_needs_the_locks_of_all_its_workers() -> None:
    members = tuple(
        Member(name, MEASURED, spec)
        for name, spec in (("b", spec_on(1, 1, device=GPU)), ("a", spec_on(0, 0)))
    )
    assert list_locks(replace(spec_on(0, 0), members=members), "gpu", TOPOLOGY) == [
        "gpu-b_1",
        "node0",
    ]
