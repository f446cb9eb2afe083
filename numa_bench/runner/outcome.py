"""From how a process ended and its result to a status and an error. Pure."""

from __future__ import annotations

import signal
from dataclasses import replace

from numa_bench.machine.model import NumaNode, Topology
from numa_bench.records import RunResult, RunSpec, Status
from numa_bench.runner.process import Ended

#: Policies under which the kernel kills a process whose node is full, even if others have room.
_BOUND = ("bind",)


def classify_outcome(
    spec: RunSpec,
    ended: Ended,
    result: RunResult | None,
    result_problem: str | None,
    stderr_tail: str,
    topology: Topology,
) -> tuple[Status, str | None]:
    """The status of a run and its error (None when it passed).

    `result` is what the worker wrote, `result_problem` why it could not be read. The exit code
    and the result must agree, or the run failed. The first line of the error is complete by
    itself; the last lines of stderr follow.
    """
    status, headline = _headline(spec, ended, result, result_problem, topology)
    if headline is None or status in (Status.WAIVED, Status.INVALID):
        return status, headline
    tail = stderr_tail.strip()
    return status, f"{headline}\n{tail}" if tail else headline


def worker_outcome(ended: Ended, result: RunResult | None) -> tuple[Ended, tuple[str, ...]]:
    """How the worker ended, derived from how its nsys session ended, and warnings about nsys.

    nsys exits with its child's exit status, 128 + n for a signal, and with 1 for its own errors.
    A worker exits with 1 only if its result is "failed": otherwise the 1 is from nsys, and the
    worker's measurement is valid.
    """
    code = ended.returncode
    if code is None or ended.reason != "exited":
        return ended, ()
    # As a Popen return code: minus the signal's number.
    if code > 128:
        return replace(ended, returncode=128 - code), ()
    if code == 1 and result is not None and result.status != Status.FAILED.value:
        return replace(ended, returncode=0), (
            "profiler: nsys ended with an error after the worker had measured; see the stdout log",
        )
    return ended, ()


def _headline(
    spec: RunSpec,
    ended: Ended,
    result: RunResult | None,
    result_problem: str | None,
    topology: Topology,
) -> tuple[Status, str | None]:
    early = find_early_end(spec, ended, topology)
    if early is not None:
        return early
    code = ended.returncode
    if result is None:
        return Status.FAILED, f"exit code {code}, {result_problem}"
    if (result.run_id, result.spec_hash) != (spec.run_id, spec.cell_hash()):
        return Status.FAILED, f"the result is of another run: {result.run_id}"
    failed = result.status == Status.FAILED.value
    if failed != (code != 0):
        return Status.FAILED, f"exit code {code} contradicts the result, which says {result.status}"
    return Status(result.status), result.error


def find_early_end(spec: RunSpec, ended: Ended, topology: Topology) -> tuple[Status, str] | None:
    """Status and error of a process that did not end by itself; None if it did."""
    if ended.start_error is not None and ended.reason == "interrupted":
        return Status.INTERRUPTED, f"interrupted by the user {ended.start_error}"
    if ended.start_error is not None:
        return Status.FAILED, f"could not be started: {ended.start_error}"
    code = ended.returncode
    hangs = "; it survived SIGKILL and hangs in the kernel, see dmesg" if code is None else ""
    if ended.reason == "timeout":
        limit = f"{spec.test.timeout_s:g}"
        return Status.TIMEOUT, f"stopped after timeout_s={limit}; raise it or measure less{hangs}"
    if ended.reason == "interrupted":
        return Status.INTERRUPTED, f"interrupted by the user{hangs}"
    # Before the result: a checkpoint may have been written before the kill.
    if code is not None and code < 0:
        return Status.FAILED, _killed(spec, -code, ended.oom_kills, topology)
    return None


def _killed(spec: RunSpec, number: int, oom_kills: int, topology: Topology) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number != signal.SIGKILL:
        return f"killed by {name}"
    bound = spec.placement.memory_nodes if spec.placement.policy in _BOUND else ()
    nodes = [node for node in map(topology.node, bound) if node is not None]
    if nodes and oom_kills:
        return f"killed: out of memory on {_sizes(nodes)}; use a smaller model, batch or pool"
    if nodes:
        return f"killed by SIGKILL, by hand or for lack of memory: it was bound to {_sizes(nodes)}"
    if oom_kills:
        return "killed: out of memory; use a smaller model, batch or pool"
    return "killed by SIGKILL, by hand or for lack of memory"


def _sizes(nodes: list[NumaNode]) -> str:
    return ", ".join(f"node {n.id}, which has {n.memory_bytes / 1e6:.0f} MB" for n in nodes)
