"""What is read of a process tree: kinds of memory by node, members, threads, CPU time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from numa_bench.runner.programs.process_tree import (
    find_escaped,
    list_tree,
    parse_numa_maps,
    read_cpu_s,
    read_memory,
    read_name,
    read_resident,
)

NUMA_MAPS = """\
5581a000 default file=/usr/bin/python3.11 mapped=70 mapmax=3 N0=70 kernelpagesize_kB=4
55820000 bind:1 anon=10 dirty=10 N0=2 N1=8 kernelpagesize_kB=4
7f000000 bind:1 heap anon=5 dirty=5 N1=5 kernelpagesize_kB=4
7f100000 bind:1 anon=512 dirty=512 N1=512 kernelpagesize_kB=4
7f200000 default file=/dev/shm/torch_1 dirty=3 N0=3 kernelpagesize_kB=4
7f210000 default file=/memfd:pymp (deleted) dirty=1 N1=1 kernelpagesize_kB=4
7f300000 default file=/dev/nvidia0 mapped=4 N0=4 kernelpagesize_kB=4
7f400000 default file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N1=2 kernelpagesize_kB=2048
7f500000 default
7f600000 default stack anon=1 dirty=1 N0=1
"""


def test_memory_is_sorted_by_kind_and_node_in_bytes() -> None:
    memory = parse_numa_maps(NUMA_MAPS)

    assert memory == {
        ("file", 0): 70 * 4096,
        ("anonymous", 0): 3 * 4096,
        ("anonymous", 1): (8 + 5 + 512) * 4096 + 2 * 2048 * 1024,
        ("shared", 0): 3 * 4096,
        ("shared", 1): 4096,
        ("driver", 0): 4 * 4096,
    }


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A shell with two children that wait; it prints a line when both are there."""
    script = "sleep 60 & sleep 60 & echo ready; wait"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def test_a_tree_has_its_root_first_and_all_descendants(family: subprocess.Popen[bytes]) -> None:
    tree = list_tree(family.pid)

    assert tree[0] == family.pid
    assert len(tree) == 3


def test_without_the_kernels_lists_the_tree_is_the_same(
    family: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sorted(list_tree(family.pid, tmp_path)) == sorted(list_tree(family.pid))


def test_a_process_that_has_ended_has_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()

    assert read_memory(process.pid) is None
    assert (read_name(process.pid), find_escaped(process.pid, frozenset())) == ("", [])
    assert read_cpu_s([process.pid]) == 0


def test_threads_that_may_run_elsewhere_are_found(family: subprocess.Popen[bytes]) -> None:
    allowed = os.sched_getaffinity(0)

    assert find_escaped(family.pid, frozenset(allowed)) == []
    assert find_escaped(family.pid, frozenset()) == [(family.pid, allowed)]


def test_own_cpu_time_grows() -> None:
    before = read_cpu_s([os.getpid()])
    while read_cpu_s([os.getpid()]) == before:
        sum(range(100_000))

    assert read_cpu_s([os.getpid()]) > before


def test_resident_memory_is_that_of_all_processes(tmp_path: Path) -> None:
    for pid, pages in ((3, 40), (4, 2)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "statm").write_text(f"1000 {pages} 7 1 0 9 0\n")

    assert read_resident([3, 4, 5], str(tmp_path)) == 42  # 5 has ended
