"""Odd machines, from the files of the kernel to the plan of a study."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.config.validation import validate_config
from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.topology import read_topology
from numa_bench.plan.plan import build_plan
from tests.fake_sysfs import FakeGpu, FakeNode, build_tree
from tests.fuzz.settings import fuzz_settings

TEXTS = ["", " ", "-1", "0", "0-3", "3-0", "9999999999", "a", "\x00", "0 0 0", "10", "Node", "é"]


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[FakeNode] | None, list[FakeGpu], dict[str, object]]:
    """Nodes with and without CPUs and memory, GPUs near and far, and changes to single files."""
    count = draw(st.integers(1, 5))
    numbers = sorted(draw(st.sets(st.integers(0, 9), min_size=count, max_size=count)))
    nodes = [
        FakeNode(
            number,
            draw(st.sampled_from(["", f"{4 * i}-{4 * i + 3}", f"{4 * i}"])),
            draw(st.sampled_from([0, 1, 16 << 20])),
            distances=[
                10 if other == number else draw(st.sampled_from([10, 12, 20, 32, 254, 255]))
                for other in numbers
            ]
            if draw(st.booleans())
            else None,
            llc_kb=draw(st.sampled_from([None, 0, 1024])),
            socket=draw(st.sampled_from([None, 0, 1, -1])),
            cores=[f"{4 * i}-{4 * i + 1}"] if draw(st.booleans()) else (),
        )
        for i, number in enumerate(numbers)
    ]
    homes = st.sampled_from([None, -1, 77, *numbers])
    gpus = [FakeGpu(f"0000:{i:02x}:00.0", draw(homes)) for i in range(draw(st.integers(0, 3)))]
    settings: dict[str, object] = {
        "numa_nodes": draw(st.sampled_from([None, "all", "local", "remote", "unbound", [0]])),
        "memory_nodes": draw(st.sampled_from([None, None, "all", "local", "remote", [0]])),
        "memory_policy": draw(
            st.sampled_from(["bind", "preferred", "interleave", "local", "none"])
        ),
        "cpu_affinity": draw(
            st.sampled_from(["node", "socket", "exclusive", "core-complex", ["node", "socket"]])
        ),
        "physcpu": draw(st.sampled_from([None, None, None, "0-3", [1, 8], []])),
        "smt": draw(st.booleans()),
    }
    return (nodes if draw(st.integers(0, 9)) else None), gpus, settings


def damage(root: Path, data: st.DataObject) -> None:
    """Remove, empty or replace a few files of a tree."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), max_size=4, unique=True)):
        text = data.draw(st.none() | st.sampled_from(TEXTS))
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text.encode("latin-1"))


@pytest.mark.slow
@fuzz_settings(60)
@given(machines(), st.sampled_from(["pipeline", "bandwidth", "contention"]), st.data())
def test_every_machine_is_planned_or_refused_in_one_line(
    machine: tuple[list[FakeNode] | None, list[FakeGpu], dict[str, object]],
    workload: str,
    data: st.DataObject,
) -> None:
    nodes, gpus, settings = machine
    with tempfile.TemporaryDirectory() as temporary:
        root = build_tree(Path(temporary), nodes, gpus)
        damage(root, data)
        config = RunnerConfig(
            experiment=ExperimentConfig(
                name="fuzzed",
                workload=workload,
                vit_configs=[ViTConfig(depth=2, dim=128)],
                hardware=HardwareConfig(**settings),  # type: ignore[arg-type]
            )
        )
        try:
            topology = read_topology(root)
            validate_config(config)
            plan = build_plan(config, topology, topology.gpus)
        except (ConfigError, MachineError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - most cases raise nothing
        else:
            assert plan.runs
            for run in plan.runs:
                assert set(run.placement.memory_nodes) <= set(topology.memory_nodes)
