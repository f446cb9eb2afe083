"""What placement says when the kernel has been asked; pure, so these run on any machine."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from numa_bench.machine import page_placement as placement
from numa_bench.records import Placement

PAGE = os.sysconf("SC_PAGE_SIZE")


def seen(
    pages: dict[str, int], policy: str | None, nodes: list[int], **more: Any
) -> dict[str, Any]:
    return {
        "cpus_allowed": "4-5",
        "thread_cpus_allowed": ["4-5"],
        "pages": pages,
        "pages_missing": 0,
        "page_bytes": PAGE,
        "policy": policy,
        "policy_nodes": nodes,
        **more,
    }


def asked(policy: str, *nodes: int) -> Placement:
    return Placement(1, nodes, policy, "local", cpus=(4, 5))


@pytest.mark.parametrize(
    ("policy", "mode", "nodes"),
    [
        ("bind", "bind", [1]),
        ("preferred", "prefer", [1]),
        ("preferred", "prefer (many)", [1]),
        ("local", "local", []),
        ("local", "prefer", []),  # as Linux before 5.14 calls it
        ("bind", None, []),  # a machine whose system call we do not know
    ],
)
def test_the_policy_that_was_asked_for(policy: str, mode: str | None, nodes: list[int]) -> None:
    assert placement.judge_placement(asked(policy, 1), seen({"1": 9}, mode, nodes)) == (1.0, None)


@pytest.mark.parametrize(
    ("policy", "mode", "nodes", "problem"),
    [
        ("bind", "default", [], "the memory policy is default, not bind:1"),
        ("bind", "bind", [1, 2], "the memory policy is bind:1,2, not bind:1"),
        ("preferred", "prefer", [2], "the memory policy is prefer:2, not preferred:1"),
        ("local", "bind", [1], "the memory policy is bind:1, not local"),
    ],
)
def test_pages_by_chance_where_they_should_be_are_not_enough(
    policy: str, mode: str, nodes: list[int], problem: str
) -> None:
    assert placement.judge_placement(asked(policy, 1), seen({"1": 9}, mode, nodes)) == (
        1.0,
        problem,
    )


def test_an_uneven_spread_is_explained_where_huge_pages_cause_it() -> None:
    huge = {"transparent_hugepages": "always", "huge_page_bytes": 2 << 20}
    few, many = 7_000_000 // PAGE, 96_000_000 // PAGE
    uneven = {"0": few, "1": 3 * few}
    _, problem = placement.judge_placement(
        asked("interleave", 0, 1), seen(uneven, None, [], **huge)
    )
    assert problem is not None
    assert "memory_size_mb=84 or more" in problem
    for pages, setting in ({"0": many, "1": 3 * many}, huge), (uneven, {}):
        _, problem = placement.judge_placement(
            asked("interleave", 0, 1), seen(pages, None, [], **setting)
        )
        assert problem is not None
        assert "memory_size_mb" not in problem


def test_pages_taken_away_for_balancing_are_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EFAULT for a page that is there is what Linux 6.1 says of it meanwhile."""
    answers = iter([[-14, 0, -14], [1, 0, -2], [1, 0, 1]])
    monkeypatch.setattr(placement, "_move_pages", lambda *_: next(answers))
    memory = bytearray(4 * PAGE)
    address = (ctypes.c_char * len(memory)).from_buffer(memory)
    start = ctypes.addressof(address)
    found = placement.observe_placement([(start, 2 * PAGE)])
    if found["method"] != "move_pages":
        pytest.skip("the numbers of this machine's system calls are not known")
    assert (found["pages"], found["pages_missing"]) == ({"0": 1, "1": 2}, 0)
