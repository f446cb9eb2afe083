"""Workers of a set start together, and count in the window that all have in common.

Two real memory streams with their real sockets, as threads on virtual clocks: the second one warms
up for seconds longer, and has the machine to itself when the first one's window is over. Each
mutation of barrier or common window changes what comes out.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from numa_bench.records import MEASURED, Member, RunResult, RunSpec, StreamSpec
from numa_bench.runner.sets import barrier, common_window
from numa_bench.worker.__main__ import build_result
from numa_bench.worker.memory_kernels.team import ThreadTeam
from numa_bench.worker.sets import rendezvous, stream
from tests.simulation.mutants import mutate_module
from tests.simulation.sharing import SharedKernels
from tests.specs import make_spec

#: GB/s of a stream beside the other one, and by itself.
BESIDE, ALONE = 2.0, 4.0
#: Seconds of the windows of the two workers; that of the second one is longer.
WINDOWS_S = {"a": 1.0, "b": 1.2}
#: Seconds by which the second worker's warm-up is longer.
LATER_S = 3.0
NEAR = 0.02

Results = dict[str, RunResult]
Run = Callable[[ModuleType, ModuleType], Results]


class Worker(SharedKernels):
    """Kernels and clock of a worker: BESIDE until `alone_after` seconds of its last start."""

    def __init__(self, now: float, alone_after: float) -> None:
        super().__init__(BESIDE * 1e9)
        self._now = now
        self._started, self._alone_after = now, alone_after

    def wait_until(self, moment: float) -> None:
        super().wait_until(moment)
        self._started = moment

    def _advance(self, seconds: float) -> tuple[float, float]:
        now = getattr(self._thread, "now", self._now)
        alone = now >= self._started + self._alone_after
        return super()._advance(seconds * BESIDE / ALONE if alone else seconds)


def make_members() -> list[Member]:
    members = []
    for name, seconds in WINDOWS_S.items():
        spec = replace(make_spec(min_timed_s=seconds), workload="stream")
        members.append(Member(name, MEASURED, replace(spec, stream=StreamSpec("read", 1, 1))))
    return members


@pytest.fixture
def run_set(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the set with these modules in place of `barrier` and `rendezvous`."""
    own = threading.local()
    monkeypatch.setattr(stream, "load_kernels", lambda: own.worker)
    monkeypatch.setattr(stream, "host_clock", lambda: own.worker)
    monkeypatch.setattr(ThreadTeam, "__enter__", lambda team: team)

    def measure(spec: RunSpec, worker: Worker, meeting: Any) -> RunResult:
        own.worker = worker
        return build_result(spec, list(stream.measure_stream(spec, rendezvous=meeting)))

    def run(barriers: ModuleType, meetings: ModuleType) -> Results:
        members = make_members()
        # Ahead of the real clock, which the runner would start them by otherwise.
        begin = time.monotonic() + 1000
        workers = {"a": Worker(begin, 10.0), "b": Worker(begin + LATER_S, WINDOWS_S["a"])}
        with (
            barriers.Barrier(dict.fromkeys(WINDOWS_S, True)) as gate,
            ThreadPoolExecutor(2) as pool,
        ):
            ends = {}
            for member in members:
                # A process would inherit it, and the runner would close its own.
                descriptor = os.dup(gate.open_socket(member.name))
                gate.hand_over(member.name)
                meeting = meetings.Rendezvous(descriptor)
                ends[member.name] = pool.submit(measure, member.spec, workers[member.name], meeting)
            while wait(ends.values(), 0).not_done:
                readable, _, _ = select.select(list(gate.sockets), [], [], 0.005)
                for end in readable:
                    gate.receive(gate.sockets[end])
            return {name: end.result() for name, end in ends.items()}

    return run


def judge(module: ModuleType, results: Mapping[str, RunResult]) -> tuple[dict[str, float], Any]:
    """GB/s of each worker in the common window, and why the set is invalid."""
    members = make_members()
    window, problem = module.find_common_window(members, results)
    if window is None:
        return {}, problem
    rates = {m.name: module.measure_rate(m, results[m.name], window) / 1e9 for m in members}
    return rates, problem


def test_streams_are_measured_while_both_run(run_set: Run) -> None:
    results = run_set(barrier, rendezvous)

    rates, problem = judge(common_window, results)
    assert problem is None
    assert rates == pytest.approx({"a": BESIDE, "b": BESIDE}, rel=NEAR)
    # By itself, the window of the second one says more than was to be had beside the first one.
    faster = (WINDOWS_S["a"] * BESIDE + 0.2 * ALONE) / WINDOWS_S["b"]
    assert results["b"].metrics["stream_gb_per_s"] == pytest.approx(faster, rel=NEAR)


NO_BARRIER = {
    "workers start at once": (
        rendezvous,
        '        self._socket.sendall(f"ready',
        '        return clock.host_time()\n        self._socket.sendall(f"ready',
    ),
    "the runner lets each worker start when it is ready": (
        barrier,
        "        if self._waiting_for and self._waiting_for <= set(self._ready):\n",
        "        if self._ready:\n            self._waiting_for = set(self._ready)\n",
    ),
}


@pytest.mark.parametrize("defect", NO_BARRIER)
def test_without_the_barrier_a_set_is_invalid(run_set: Run, defect: str) -> None:
    module, old, new = NO_BARRIER[defect]
    mutant = mutate_module(module, old, new)
    modules = [mutant if one is module else one for one in (barrier, rendezvous)]

    rates, problem = judge(common_window, run_set(*modules))

    assert rates == {}
    assert problem.startswith("the workers did not run at the same time: ")


OTHER_WINDOWS = {
    "a worker counts in its own window": (
        "    begin, end = window.begin_s, window.end_s\n",
        '    begin, end = result.observed["window_host_s"]\n',
    ),
    "the window ends with the last worker": (
        "    end = min(window[1] for window in measured.values())\n",
        "    end = max(window[1] for window in measured.values())\n",
    ),
}


@pytest.mark.parametrize("defect", OTHER_WINDOWS)
def test_what_is_counted_outside_of_the_common_window_shows(run_set: Run, defect: str) -> None:
    mutant = mutate_module(common_window, *OTHER_WINDOWS[defect])

    rates, _ = judge(mutant, run_set(barrier, rendezvous))

    assert rates != pytest.approx({"a": BESIDE, "b": BESIDE}, rel=5 * NEAR)


def make_batches(mutated: ModuleType) -> float:
    """Samples per second of a pipeline: batches of 4 in 10 ms for a second, then in 5 ms."""
    starts = [10.0 * i for i in range(100)] + [1000 + 5.0 * i for i in range(40)]
    spec = make_spec(batch_size=4)
    result = RunResult(
        spec.run_id,
        spec.cell_hash(),
        "passed",
        metrics={"measured_samples": 4.0 * len(starts)},
        samples={"start_ms": starts, "latency_ms": [10.0] * 100 + [5.0] * 40},
        observed={"window_host_s": [50.0, 51.2], "timed_stride": 1},
    )
    window = mutated.CommonWindow(50.105, 50.995, 0.75)
    rate: float = mutated.measure_rate(Member("a", MEASURED, spec), result, window)
    return rate


def test_batches_outside_of_the_common_window_do_not_count() -> None:
    assert make_batches(common_window) == pytest.approx(400.0)
    defect = OTHER_WINDOWS["a worker counts in its own window"]
    assert make_batches(mutate_module(common_window, *defect)) > 400.0 * 1.1
