"""The bandwidth study on four nodes without a GPU, in one process, to matrix and verdict."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.analysis import load_runs
from numa_bench.analysis.questions.links.matrix import tabulate_matrix
from numa_bench.records import Placement
from numa_bench.runner.numactl import numactl_argv
from tests.e2e.conftest import Line
from tests.e2e.verdicts import claims, read_verdict
from tests.simulation.host_memory import MemoryModel
from tests.simulation.machine import SimulatedMachine, make_dual_socket

# Without coverage, which would double its time; tests of the parts measure it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.no_cover]

#: One direction of the link between the sockets is slow for one pair of nodes only.
SLOW_CPU, SLOW_MEMORY, SLOW = 3, 1, 0.4
MEMORY = MemoryModel(
    read_gb_per_s=20.0,
    write_gb_per_s=8.0,
    copy_gb_per_s=12.0,
    latency_ns=90.0,
    same_socket=0.9,
    remote=0.7,
    slow_pairs=((SLOW_CPU, SLOW_MEMORY, SLOW),),
)
NEAR = 0.02
STUDY = (
    "python hydra_experiment_runner.py experiment=bandwidth_study experiment.monitor_interval_s=0 "
    "experiment.bandwidth.sizes=[4096] experiment.bandwidth.rounds=3 "
    "experiment.bandwidth.huge_pages=never experiment.hardware.numa_nodes=[1,3] "
)


@pytest.fixture
def host(simulate: Callable[[SimulatedMachine], None]) -> None:
    simulate(replace(make_dual_socket(0, {}), memory=MEMORY))


def expected_factor(cpu: int, memory: int) -> float:
    if (cpu, memory) == (SLOW_CPU, SLOW_MEMORY):
        return SLOW
    if cpu == memory:
        return 1.0
    return 0.9 if cpu // 2 == memory // 2 else 0.7


def swap_nodes(argv: Iterable[str]) -> list[str]:
    """A numactl command that binds CPUs where memory should be, and memory where CPUs should be."""
    swapped = {"--cpunodebind": "--membind", "--membind": "--cpunodebind"}
    words = [word.partition("=") for word in argv]
    return [f"{swapped.get(name, name)}{sign}{value}" for name, sign, value in words]


@pytest.mark.usefixtures("host")
def test_the_planted_pair_of_nodes_is_found_and_named(line: Line, tmp_path: Path) -> None:
    code, _, stderr = line(f"{STUDY} experiment.repeats=3")
    assert code == 0, stderr[-2000:]
    frame = load_runs(tmp_path / "outputs")
    assert Counter(frame["status"]) == {"passed": 2 * 4 * 3}

    matrix = tabulate_matrix(frame).set_index(["numa_node", "memory_node"])
    assert set(matrix.index) == set(itertools.product((1, 3), range(4)))
    for cpu, memory in matrix.index:
        factor, row = expected_factor(cpu, memory), matrix.loc[(cpu, memory)]
        wanted = {"read_gb_per_s": 20.0, "write_gb_per_s": 8.0, "copy_gb_per_s": 12.0}
        measured = {name: row[name] / factor for name in wanted}
        assert measured == pytest.approx(wanted, rel=NEAR), (cpu, memory)
        assert row["to_best"] == pytest.approx(factor - 1, abs=0.01)
    for run in frame.to_dict("records"):
        factor = expected_factor(run["numa_node"], run["memory_node"])
        assert run["load_latency_ns"] == pytest.approx(90.0 / factor, rel=NEAR)

    code, _, stderr = line("python analysis/analyze.py experiment_name=bandwidth_study")
    assert code == 0, stderr[-2000:]
    found = claims(read_verdict(tmp_path))
    slow = ("bandwidth", "CPU", f"node {SLOW_CPU}, memory {SLOW_MEMORY}")
    assert min(found, key=lambda claim: found[claim]) == slow
    (page,) = tmp_path.rglob("report.html")
    # The mean of both far nodes, of which one is the slow one.
    worst = 1 - (SLOW * 0.7) ** 0.5
    assert f"from 30.0 % on node 1 to {100 * worst:.1f} % on node 3" in page.read_text()
    assert f"{100 * (1 - SLOW):.1f} %" in page.read_text()


@pytest.mark.usefixtures("host")
def test_swapped_nodes_in_the_numactl_command_are_noticed(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that would exchange rows and columns of the matrix."""

    def swapped_argv(placement: Placement) -> list[str]:
        return swap_nodes(numactl_argv(placement))

    monkeypatch.setattr("numa_bench.runner.command.numactl_argv", swapped_argv)
    code, _, _ = line(f"{STUDY} experiment.repeats=1")
    assert code == 1
    frame = load_runs(tmp_path / "outputs")
    assert len(frame) == 2 * 4
    for run in frame.to_dict("records"):
        cpu, memory = run["numa_node"], run["memory_node"]
        if cpu == memory:
            assert run["status"] == "passed"
        else:
            assert run["status"] == "invalid"
            assert f"on node {memory} (pages: node {cpu}: " in run["error"]
