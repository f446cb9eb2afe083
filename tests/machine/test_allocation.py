"""What a process was granted: CPUs, memory nodes and GPUs, by SLURM, cpusets and variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from numa_bench.machine.allocation import (
    Allocation,
    parse_allowed_nodes,
    read_allocation,
    select_granted_gpus,
)
from tests.machines import laptop, server

#: server(): node 0 has CPUs 0-47, node 2 has 48-95.
ALL_CPUS = range(96)
STATUS = "Name:\tpython\nMems_allowed:\t00000000,00000005\nMems_allowed_list:\t0,2\n"


def granted(**environ: str) -> list[int]:
    """Numbers of the server's GPUs that a process with this environment may use."""
    return [gpu.index for gpu in select_granted_gpus(server(), environ)[0]]


def test_an_unrestricted_process_has_no_limits() -> None:
    assert read_allocation(server(), {}, ALL_CPUS, STATUS, 96.0) == Allocation(cpu_quota=96.0)


def test_cpus_and_nodes_come_from_the_affinity_and_the_status() -> None:
    # CPU 200 is offline, and belongs to no node.
    allocation = read_allocation(
        server(), {}, {0, 1, 50, 200}, STATUS.replace("list:\t0,2", "list:\t0")
    )

    assert allocation.cpus == frozenset({0, 1, 50})
    assert allocation.memory_nodes == frozenset({0})
    assert allocation.to_dict()["cpus"] == "0-1,50"


@pytest.mark.parametrize(
    ("text", "nodes"),
    [(STATUS, (0, 2)), ("Mems_allowed_list:\t0-1,3\n", (0, 1, 3)), ("", None), (STATUS[:20], None)],
)
def test_allowed_nodes(text: str, nodes: tuple[int, ...] | None) -> None:
    assert parse_allowed_nodes(text) == nodes


def test_this_process_has_its_own_affinity() -> None:
    """On the machine that runs this, whatever it is."""
    allocation = read_allocation(laptop())

    usable = os.sched_getaffinity(0) & {0, 1, 2, 3}
    assert allocation.cpus == (None if len(usable) == 4 else usable)
    assert parse_allowed_nodes(Path("/proc/self/status").read_text())


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, list(range(8))),
        ({"CUDA_VISIBLE_DEVICES": "5,2"}, [5, 2]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0,3"}, [0, 3]),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0-3", "SLURM_STEP_GPUS": "2"}, [2]),
        # Set by somebody inside the job: it cannot widen what was granted.
        ({"SLURM_STEP_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "3,4"}, [3]),
        # SLURM may spell the list in its own way; then only the other variable counts.
        ({"SLURM_STEP_GPUS": "gpu:a100:2", "CUDA_VISIBLE_DEVICES": "1"}, [1]),
    ],
)
def test_granted_gpus(environ: dict[str, str], wanted: list[int]) -> None:
    assert granted(**environ) == wanted


def test_numbers_of_slurm_do_not_count_where_a_cgroup_hides_the_other_gpus() -> None:
    """SLURM_JOB_GPUS=6 of a host of eight: the job sees one GPU, and that is number 0."""
    one = server().gpus[:1]
    machine = laptop().__class__(server().nodes, one)

    found, limits, _ = select_granted_gpus(
        machine, {"SLURM_JOB_GPUS": "6", "CUDA_VISIBLE_DEVICES": "0"}
    )

    assert found == one
    assert limits == ("CUDA_VISIBLE_DEVICES=0",)


def test_a_slurm_job_that_sees_gpus_without_having_asked_is_noted() -> None:
    notes = read_allocation(server(), {"SLURM_JOB_ID": "7"}, ALL_CPUS, STATUS, 96.0).notes

    assert len(notes) == 1
    assert "asked for no GPU, and sees 8" in notes[0]


@pytest.mark.parametrize(("quota", "lines"), [(2.5, 1), (96.0, 0)])
def test_a_cpu_quota_below_the_granted_cpus_is_noted(quota: float, lines: int) -> None:
    allocation = read_allocation(server(), {}, ALL_CPUS, STATUS, quota)

    assert allocation.to_dict()["cpu_quota"] == quota
    assert allocation.cpus is None
    assert len(allocation.notes) == lines
    assert all("the time of 2.5 CPUs, and it may use 96" in note for note in allocation.notes)


def test_job_and_restarts_come_from_slurm() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "SLURM_JOB_GPUS": "0-7"}
    allocation = read_allocation(server(), environ, ALL_CPUS, STATUS)

    assert (allocation.job, allocation.restarts) == ("7", 2)
    assert allocation.source == "SLURM job 7"
    assert allocation.gpus is None  # all of them
