"""A check that hangs or dies fails; the others have their verdicts."""

from __future__ import annotations

import os

import pytest

from numa_bench.selftest.checks import Check, Figure, Limit, Outcome, Verdict
from numa_bench.selftest.session import Session
from numa_bench.selftest.supervisor import group_checks, supervise_checks
from tests.selftest.contexts import UNBOUND


def check(name: str, *, own_process: bool = False, timeout_s: float = 60) -> Check:
    return Check(
        name,
        "?",
        "",
        Limit(),
        lambda _: Figure(0),
        own_process=own_process,
        timeout_s=timeout_s,
    )


def supervise(*checks: Check, start_timeout_s: float = 60) -> dict[str, Outcome]:
    shown: list[str] = []
    outcomes = supervise_checks(
        checks,
        Session(UNBOUND),
        os.environ,
        shown.append,
        start_timeout_s=start_timeout_s,
        module="tests.selftest.fake_process",
    )
    assert [outcome.check for outcome in outcomes] == list(checks)
    return {outcome.check.name: outcome for outcome in outcomes}


def pid_of(outcome: Outcome) -> float:
    assert outcome.figure is not None
    return outcome.figure.value


def test_checks_share_a_process_unless_one_wants_its_own() -> None:
    a, b, c, d = check("a"), check("b"), check("c", own_process=True), check("d")

    outcomes = supervise(a, b, c, d)

    assert group_checks([a, b, c, d]) == [[a, b], [c], [d]]
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.PASSED}
    pids = {name: pid_of(outcome) for name, outcome in outcomes.items()}
    assert pids["a"] == pids["b"]
    assert len(set(pids.values())) == 3


@pytest.mark.slow
def test_a_check_that_hangs_is_ended_and_the_next_ones_are_done() -> None:
    outcomes = supervise(check("a"), check("hang", timeout_s=0.5), check("b"))

    assert outcomes["hang"].verdict is Verdict.FAILED
    assert outcomes["hang"].note == "took longer than 0.5 s"
    assert outcomes["a"].verdict is outcomes["b"].verdict is Verdict.PASSED
    assert pid_of(outcomes["a"]) != pid_of(outcomes["b"])


def test_a_check_that_kills_its_process_fails_alone() -> None:
    outcomes = supervise(check("die"), check("a"), check("exit"))

    assert outcomes["die"].verdict is outcomes["exit"].verdict is Verdict.FAILED
    assert "SIGSEGV" in outcomes["die"].note
    assert outcomes["exit"].note == "its process ended with 1: out of memory"
    assert outcomes["a"].verdict is Verdict.PASSED


def test_a_process_that_does_not_start_fails_all_its_checks() -> None:
    outcomes = supervise(check("a"), check("unready"), check("b", own_process=True))

    for name in ("a", "unready"):
        assert outcomes[name].verdict is Verdict.FAILED
        assert "did not start" in outcomes[name].note
        assert "no CUDA driver" in outcomes[name].note
    assert outcomes["b"].verdict is Verdict.PASSED


def test_a_process_that_hangs_while_it_starts_is_ended() -> None:
    outcomes = supervise(check("mute"), start_timeout_s=0.5)

    assert outcomes["mute"].note == "the bound process did not start within 0.5 s"
