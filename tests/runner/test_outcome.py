"""What a process left behind becomes a status, and an error that helps."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from numa_bench.machine.model import NumaNode, Topology
from numa_bench.records import Placement, RunResult, RunSpec, Status
from numa_bench.runner.outcome import classify_outcome
from numa_bench.runner.process import Ended
from tests.specs import make_spec

TOPOLOGY = Topology(
    nodes=(
        NumaNode(0, (0, 1), 64_000_000_000, {0: 10, 1: 21}),
        NumaNode(1, (2, 3), 32_000_000_000, {0: 21, 1: 10}),
    ),
    gpus=(),
)
BOUND = Placement(0, (1,), "bind", "remote_memory", cpus=(0, 1))
SPEC = make_spec()
TAIL = "Traceback (most recent call last):\nRuntimeError: no\n"


def exited(code: int | None, reason: str = "exited", *, oom_kills: int = 0) -> Ended:
    return Ended(code, reason, 1.0, oom_kills=oom_kills)


def result_of(spec: RunSpec, status: str, error: str | None = None) -> RunResult:
    return RunResult(spec.run_id, spec.cell_hash(), status, error)


def verdict(
    ended: Ended,
    result: RunResult | None = None,
    *,
    spec: RunSpec = SPEC,
    problem: str = "and it left no result",
    tail: str = "",
) -> tuple[Status, str | None]:
    return classify_outcome(spec, ended, result, problem, tail, TOPOLOGY)


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ("passed", None, 0),
        ("waived", "needs compute capability 8.0", 0),
        ("invalid", "memory was elsewhere", 0),
        ("failed", "RuntimeError: no", 1),
    ],
)
def test_the_worker_is_believed_when_its_exit_code_agrees(
    status: str, error: str | None, code: int
) -> None:
    found = verdict(exited(code), result_of(SPEC, status, error))
    assert found == (Status(status), error)


@pytest.mark.parametrize(
    ("status", "error", "code", "expected"),
    [
        ("passed", None, 0, None),
        ("waived", "cannot", 0, "cannot"),
        ("invalid", "wrong", 0, "wrong"),
        ("failed", "RuntimeError: no", 1, "RuntimeError: no\n" + TAIL.strip()),
    ],
)
def test_stderr_is_told_with_failures_only(
    status: str, error: str | None, code: int, expected: str | None
) -> None:
    """A run that passed may have warned on stderr; that is in its log."""
    assert verdict(exited(code), result_of(SPEC, status, error), tail=TAIL)[1] == expected


def test_a_program_that_could_not_be_started() -> None:
    ended = Ended(None, "exited", 0.0, start_error="No such file or directory: 'numactl'")
    status, error = verdict(ended)
    assert status is Status.FAILED
    assert error == "could not be started: No such file or directory: 'numactl'"


@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGKILL, 0])
def test_a_timeout_names_the_setting_and_its_value(code: int) -> None:
    """Also when the worker had written a result: it did not end."""
    spec = make_spec(timeout_s=2.5)
    status, error = verdict(exited(code, "timeout"), result_of(spec, "passed"), spec=spec)
    assert status is Status.TIMEOUT
    assert error == "stopped after timeout_s=2.5; raise it or measure less"


def test_a_timeout_tells_where_it_was() -> None:
    status, error = verdict(exited(-15, "timeout"), tail=TAIL)
    assert status is Status.TIMEOUT
    assert str(error).splitlines()[1:] == TAIL.splitlines()


def test_an_interrupted_run() -> None:
    assert verdict(exited(-15, "interrupted")) == (Status.INTERRUPTED, "interrupted by the user")


@pytest.mark.parametrize("reason", ["timeout", "interrupted"])
def test_a_process_that_does_not_die_is_told(reason: str) -> None:
    status, error = verdict(exited(None, reason))
    assert status is Status(reason)
    assert "it survived SIGKILL" in str(error)
    assert "dmesg" in str(error)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGSEGV, "SIGSEGV"),
        (signal.SIGBUS, "SIGBUS"),
        (signal.SIGTERM, "SIGTERM"),
        (47, "signal 47"),
    ],
)
def test_a_signal_is_told_by_its_name(number: int, name: str) -> None:
    status, error = verdict(exited(-number), result_of(SPEC, "passed"), tail="last words")
    assert status is Status.FAILED
    assert error == f"killed by {name}\nlast words"


def killed_at(placement: Placement, oom_kills: int) -> str:
    status, error = verdict(
        exited(-signal.SIGKILL, oom_kills=oom_kills),
        result_of(SPEC, "passed"),
        spec=make_spec(placement=placement),
    )
    assert status is Status.FAILED
    return str(error)


def test_a_bound_run_that_was_killed_for_memory_names_the_node_and_its_size() -> None:
    assert killed_at(BOUND, oom_kills=1) == (
        "killed: out of memory on node 1, which has 32000 MB; use a smaller model, batch or pool"
    )


def test_all_nodes_of_a_binding_are_named() -> None:
    error = killed_at(replace(BOUND, memory_nodes=(0, 1)), oom_kills=1)
    assert "node 0, which has 64000 MB, node 1, which has 32000 MB" in error


def test_a_bound_run_that_was_killed_otherwise_may_still_have_lacked_memory() -> None:
    """A container's limit can act without the kernel's counter."""
    assert killed_at(BOUND, oom_kills=0) == (
        "killed by SIGKILL, by hand or for lack of memory: it was bound to node 1, which has "
        "32000 MB"
    )


@pytest.mark.parametrize(
    "placement",
    [
        replace(BOUND, policy="preferred"),
        replace(BOUND, policy="interleave", memory_nodes=(0, 1)),
        Placement(None, (), "none", "unbound"),
        replace(BOUND, memory_nodes=(7,)),
    ],
    ids=["preferred", "interleave", "unbound", "unknown node"],
)
def test_a_node_is_blamed_only_when_memory_was_bound_to_it(placement: Placement) -> None:
    expected = "killed: out of memory; use a smaller model, batch or pool"
    assert killed_at(placement, oom_kills=2) == expected
    expected = "killed by SIGKILL, by hand or for lack of memory"
    assert killed_at(placement, oom_kills=0) == expected


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_no_usable_result_is_a_failure_whatever_the_exit_code(code: int) -> None:
    status, error = verdict(exited(code), None, problem="and its result cannot be read: half")
    assert status is Status.FAILED
    assert error == f"exit code {code}, and its result cannot be read: half"


@pytest.mark.parametrize(
    ("status", "code"), [("passed", 1), ("passed", 3), ("waived", 1), ("invalid", 1), ("failed", 0)]
)
def test_exit_code_and_result_must_agree(status: str, code: int) -> None:
    found, error = verdict(exited(code), result_of(SPEC, status))
    assert found is Status.FAILED
    assert error == f"exit code {code} contradicts the result, which says {status}"


def test_the_result_of_another_run_is_refused() -> None:
    other = replace(result_of(SPEC, "passed"), run_id="other_r0-123456")
    assert verdict(exited(0), other) == (
        Status.FAILED,
        "the result is of another run: other_r0-123456",
    )


def test_the_result_of_another_spec_is_refused() -> None:
    """The run id is the same, but it measured something else."""
    other = result_of(make_spec(batch_size=64), "passed")
    assert other.run_id == SPEC.run_id
    assert verdict(exited(0), other)[0] is Status.FAILED
