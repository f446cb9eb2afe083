"""From a check's figure, or its failure, to a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest

from numa_bench.selftest.checks import Check, Figure, Limit, Verdict, Waived, run_check
from numa_bench.worker.devices import Waived as WaivedRun
from tests.selftest.contexts import make_context, make_cuda_context
from tests.selftest.fake_cuda import FakeCuda


def check(run: Any, limit: Limit | None = None, **settings: Any) -> Check:
    return Check("name", "question?", "s", limit or Limit(least=1), run, **settings)


@pytest.mark.parametrize(
    ("limit", "inside", "outside"),
    [
        (Limit(least=0.95), [0.95, 1, 2], [0.94, math.nan, -math.inf]),
        (Limit(most=2), [2, 0, -1], [2.01, math.nan]),
        (Limit(0.75, 1), [0.75, 1], [0.74, 1.01, math.nan]),
        (Limit(0, 0), [0], [1e-9, math.nan]),
    ],
)
def test_both_ends_of_a_limit_pass_and_nan_never_does(
    limit: Limit, inside: list[float], outside: list[float]
) -> None:
    assert all(limit.allows(value) for value in inside)
    assert not any(limit.allows(value) for value in outside)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Limit(least=0.95), ">= 0.95"),
        (Limit(most=2), "<= 2"),
        (Limit(0.75, 1), "0.75 to 1"),
        (Limit(0, 0), "0"),
        (Limit(), "-"),
    ],
)
def test_limits_as_text(limit: Limit, text: str) -> None:
    assert str(limit) == text


def test_a_figure_is_compared_with_the_limit() -> None:
    passed = run_check(check(lambda _: Figure(1.5, "fine")), make_context())
    failed = run_check(check(lambda _: Figure(0.5, "slow")), make_context())

    assert (passed.verdict, passed.note) == (Verdict.PASSED, "fine")
    assert (failed.verdict, failed.note) == (Verdict.FAILED, "slow")
    assert failed.figure is not None


def test_an_exception_fails_the_check_with_its_first_line() -> None:
    def crash(_: object) -> Figure:
        raise RuntimeError("CUDA error: no kernel image\nlong explanation")

    outcome = run_check(check(crash), make_context())

    assert outcome.verdict is Verdict.FAILED
    assert outcome.note == "RuntimeError: CUDA error: no kernel image"
    assert outcome.traceback is not None
    assert "in crash" in outcome.traceback


def test_what_cannot_be_done_is_waived_with_its_reason() -> None:
    def refuse(_: object) -> Figure:
        raise WaivedRun("bf16 needs compute capability 8.0")

    by_return = run_check(check(lambda _: Waived("no nsys")), make_context())
    by_exception = run_check(check(refuse), make_context())

    assert (by_return.verdict, by_return.note) == (Verdict.WAIVED, "no nsys")
    assert by_exception.verdict is Verdict.WAIVED
    assert "8.0" in by_exception.note


def never(_: object) -> Figure:
    raise AssertionError("must not run")


def test_gpu_checks_are_waived_without_a_gpu() -> None:
    gpu_check = check(never, needs_gpu=True)

    assert run_check(gpu_check, make_context()).verdict is Verdict.WAIVED
    assert run_check(gpu_check, make_cuda_context(FakeCuda())).verdict is Verdict.FAILED


def test_long_checks_need_full() -> None:
    long_check = check(never, full_only=True)

    outcome = run_check(long_check, make_context())

    assert outcome.verdict is Verdict.WAIVED
    assert "--full" in outcome.note
    assert run_check(long_check, make_context(full=True)).verdict is Verdict.FAILED
