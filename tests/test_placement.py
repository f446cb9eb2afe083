"""Where pages are: asked of this kernel for our own memory, and judged against a placement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from numa_bench.machine import page_placement as placement
from numa_bench.machine.sysfs import parse_cpu_list
from numa_bench.records import Placement
from numa_bench.worker.buffers import HostBuffer

BIND_1 = Placement(1, (1,), "bind", "local", cpus=(4, 5))


def observed(pages: dict[str, int], **others: Any) -> dict[str, Any]:
    return {
        "cpus_allowed": "4-5",
        "thread_cpus_allowed": ["4-5"],
        "pages": pages,
        "pages_missing": 0,
        **others,
    }


def test_every_page_of_a_touched_buffer_is_found() -> None:
    buffer = HostBuffer((1000, 1000), torch.float32)
    seen = placement.observe_placement([(buffer.address, buffer.nbytes)])
    if seen["method"] is None:
        pytest.skip("this kernel has neither move_pages nor numa_maps")
    pages = -(-buffer.nbytes // seen["page_bytes"])
    if seen["method"] == "move_pages":
        assert sum(seen["pages"].values()) == pages
        assert seen["pages_missing"] == 0
    else:  # a mapping may have been merged with its neighbours
        assert sum(seen["pages"].values()) >= pages


def test_own_cpus_and_policy_are_told() -> None:
    seen = placement.observe_placement([])
    allowed = parse_cpu_list(seen["cpus_allowed"])
    assert set(allowed) == os.sched_getaffinity(0)
    assert seen["thread_cpus_allowed"]
    assert seen["policy"] in (*placement._MODES, None)


def test_numa_maps_are_used_where_move_pages_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> list[int]:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(placement, "_move_pages", forbidden)
    buffer = HostBuffer((1000, 1000), torch.float32)
    seen = placement.observe_placement([(buffer.address, buffer.nbytes)])
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("kernel without /proc/self/numa_maps")
    assert seen["method"] == "numa_maps"
    assert sum(seen["pages"].values()) >= buffer.nbytes // seen["page_bytes"]


def test_numa_maps_lines_are_counted_by_node_and_page_size() -> None:
    text = (
        "00400000 default file=/bin/x mapped=3 N0=3 kernelpagesize_kB=4\n"
        "7f0000000000 bind:1 anon=6 dirty=6 N0=2 N1=4 kernelpagesize_kB=4\n"
        "7f0100000000 bind:1 anon=2 N1=2 kernelpagesize_kB=2048\n"
    )
    found = placement._from_numa_maps(text, [0x7F0000001000, 0x7F0000002000, 0x7F0100000000])
    page = os.sysconf("SC_PAGE_SIZE")
    assert found == {0: 2 * 4096 // page, 1: 4 * 4096 // page + 2 * 2048 * 1024 // page}


def test_all_pages_where_they_should_be() -> None:
    assert placement.judge_placement(BIND_1, observed({"1": 100})) == (1.0, None)


def test_stray_pages_make_it_invalid_and_say_where_they_are() -> None:
    fraction, problem = placement.judge_placement(BIND_1, observed({"0": 2, "1": 98}))
    assert fraction == 0.98
    assert problem is not None
    assert "98.0%" in problem
    assert "node 0: 2" in problem


def test_one_page_in_a_hundred_may_stray() -> None:
    assert placement.judge_placement(BIND_1, observed({"0": 1, "1": 99})) == (0.99, None)


def test_pages_that_are_nowhere_count_against_it() -> None:
    fraction, problem = placement.judge_placement(BIND_1, observed({"1": 90}, pages_missing=10))
    assert fraction == 0.9
    assert problem


@pytest.mark.parametrize("field", ["cpus_allowed", "thread_cpus_allowed"])
def test_a_thread_that_may_run_elsewhere_makes_it_invalid(field: str) -> None:
    value: Any = "0-5" if field == "cpus_allowed" else ["4-5", "0-5"]
    _, problem = placement.judge_placement(BIND_1, observed({"1": 1}, **{field: value}))
    assert problem is not None
    assert "outside node 1" in problem


def test_preferred_may_spill_and_says_how_much() -> None:
    preferred = Placement(1, (1,), "preferred", "local", cpus=(4, 5))
    assert placement.judge_placement(preferred, observed({"0": 50, "1": 50})) == (0.5, None)


@pytest.mark.parametrize(
    ("pages", "good"), [({"0": 52, "1": 48}, True), ({"0": 60, "1": 40}, False), ({"1": 9}, False)]
)
def test_interleave_must_be_even(pages: dict[str, int], good: bool) -> None:
    spread = Placement(1, (0, 1), "interleave", "interleave", cpus=(4, 5))
    _, problem = placement.judge_placement(spread, observed(pages))
    assert (problem is None) is good


def test_unbound_memory_has_no_fraction() -> None:
    unbound = Placement(None, (), "none", "unbound")
    assert placement.judge_placement(unbound, observed({"0": 5})) == (None, None)


def test_unknown_pages_are_unproven_not_passed() -> None:
    seen = observed({}, pages_missing=None)
    fraction, problem = placement.judge_placement(BIND_1, seen)
    assert fraction is None
    assert problem is not None
    assert "unproven" in problem
