"""Watching a running process: where its memory and threads are, and what that makes of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from numa_bench.records import COMMAND, CommandSpec, Placement, RunSpec, Status
from numa_bench.runner.process import StopRequest
from numa_bench.runner.programs import process_tree, watch
from numa_bench.runner.programs.watch import Watch
from tests.specs import UNBOUND, make_spec

#: Holds 20 MB, says so, and ends when its input is closed.
HOLDER = "import sys; held = bytearray(20_000_000); print('ready', flush=True); sys.stdin.read()"
#: A node that no machine of these tests has.
FAR = 99


def spec(placement: Placement, check: str = "invalid", **command: object) -> RunSpec:
    own = replace(CommandSpec(("x",), placement_check=check), **command)  # type: ignore[arg-type]
    return replace(make_spec(placement=placement), workload=COMMAND, command=own)


def bound(memory: int, *cpus: int, policy: str = "bind") -> Placement:
    return Placement(0 if cpus else None, (memory,), policy, "local", cpus)


@contextmanager
def running() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.communicate()


def watched(run: RunSpec, outputs: tuple[Path, ...] = ()) -> Watch:
    """A watch that has looked at a process with 20 MB once."""
    seen = Watch(run, outputs)
    with running() as process, StopRequest() as stop:
        seen._look(process.pid)
        assert not stop.reason
    return seen


needs_numa_maps = pytest.mark.skipif(
    process_tree.read_memory(os.getpid()) is None, reason="no numa_maps here"
)


@needs_numa_maps
def test_memory_elsewhere_makes_the_run_invalid() -> None:
    seen = watched(spec(bound(FAR)))

    status, error = seen.judge()
    assert status.value == "invalid"
    assert error is not None
    assert "only 0.0% of the memory was on node 99 at its peak (node " in error
    assert "placement_check=warning" in error
    assert seen.fraction == 0


@needs_numa_maps
def test_programs_that_bind_themselves_get_a_warning_by_setting() -> None:
    seen = watched(spec(bound(FAR), "warning"))

    assert seen.judge()[0].value == "passed"
    assert seen.list_warnings()[0].startswith("misplaced: only 0.0% of the memory")


@needs_numa_maps
def test_memory_where_it_was_bound_is_fine() -> None:
    everywhere = watched(spec(UNBOUND)).describe(None)["memory_at_peak"]["anonymous"]
    node = int(max(everywhere, key=lambda name: int(everywhere[name])))

    seen = watched(spec(bound(node), least_fraction=0.5))

    assert seen.judge() == (Status.PASSED, None)
    assert seen.list_warnings() == []
    assert seen.fraction is not None
    assert seen.fraction > 0.5


@needs_numa_maps
def test_a_preference_may_spill() -> None:
    seen = watched(spec(bound(FAR, policy="preferred")))

    assert seen.judge()[0].value == "passed"
    assert seen.fraction == 0


def test_threads_outside_their_cpus_are_named() -> None:
    seen = watched(spec(Placement(0, (), "none", "local", (4095,))))

    _, error = seen.judge()
    assert error is not None
    assert "threads could run outside CPUs 4095 of node 0: python" in error
    assert seen.describe(None)["escaped_threads"] >= 1


@needs_numa_maps
def test_without_a_binding_the_memory_is_recorded_and_nothing_is_judged() -> None:
    seen = watched(spec(UNBOUND))

    described = seen.describe(None)
    assert sum(described["memory_at_peak"]["anonymous"].values()) >= 20_000_000
    assert described["course"]["seconds"] == [0.0]
    assert (seen.fraction, seen.judge()[1], seen.list_warnings()) == (None, None, [])


def test_a_command_that_ends_before_the_first_look_is_unproven() -> None:
    seen = Watch(spec(bound(0, 0)), ())

    assert seen.list_warnings() == [
        "placement: the command ended before its memory and threads were looked at"
    ]
    assert seen.judge()[0].value == "passed"


def test_the_course_is_thinned_and_the_peak_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of looks does not fill the record."""
    seen = Watch(spec(bound(1)), ())
    sizes = iter([5, 100, *[7] * 1000])
    monkeypatch.setattr(watch, "read_name", lambda _: "x")
    monkeypatch.setattr(watch, "list_tree", lambda _: [1])
    monkeypatch.setattr(watch, "read_memory", lambda _: process_tree.Memory({
        ("anonymous", 1): next(sizes), ("file", 0): 1000,
    }))  # fmt: skip
    for _ in range(1000):
        seen._look(1)

    described = seen.describe(None)
    assert described["memory_at_peak"] == {"anonymous": {"1": 100}, "file": {"0": 1000}}
    assert described["looks"] == 1000
    assert len(described["course"]["seconds"]) <= watch.MOST_POINTS
    assert seen.fraction == 1  # the page cache's pages are not the program's


def test_numactl_is_not_taken_for_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Watch(spec(bound(1)), ())
    monkeypatch.setattr(watch, "read_name", lambda _: "numactl")

    seen._look(1)

    assert seen.describe(None)["looks"] == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time of the watch's thread, which passes when it waits; a look takes 20 ms of CPU time,
    half of it for the list of processes."""
    made = Clock()
    times = SimpleNamespace(monotonic=lambda: made.now, thread_time=lambda: made.cpu)
    monkeypatch.setattr(watch, "time", times)
    monkeypatch.setattr(watch, "list_tree", made.list)
    monkeypatch.setattr(watch, "read_name", lambda _: "x")
    monkeypatch.setattr(watch, "move_away", lambda _: None)
    monkeypatch.setattr(watch, "read_resident", lambda _: made.read_resident())
    monkeypatch.setattr(watch, "read_memory", made.look)
    return made


class Clock:
    """Seconds since the start, CPU time, when it was looked, and how much memory there is."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.looks: list[float] = []
        self.limit_s = 30.0
        self.reading_s = 0.0
        self.resident: Callable[[], int] = lambda: 100

    def list(self, root: int) -> list[int]:
        self.cpu += 0.01
        return [root]

    def read_resident(self) -> int:
        self.cpu += self.reading_s
        return self.resident()

    def look(self, _: int) -> process_tree.Memory:
        self.looks.append(round(self.now, 3))
        self.cpu += 0.01
        return process_tree.Memory({("anonymous", 0): 1})

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now > self.limit_s

    def watch(self) -> None:
        seen = Watch(spec(UNBOUND), ())
        seen._done = self  # type: ignore[assignment]
        with StopRequest() as stop:
            seen._loop(1, stop)


def test_a_long_look_makes_the_next_one_late(clock: Clock) -> None:
    """At most 0.2 % of a CPU, however large the tree is: 0.02 s of looking waits 10 s."""
    clock.watch()

    assert clock.looks[0] == 0.02
    assert len(clock.looks) == 3
    assert all(10 <= after - before < 10.6 for before, after in pairwise(clock.looks))


def test_what_is_allocated_during_a_look_is_looked_at_again(clock: Clock) -> None:
    clock.resident = lambda: 10_000 if clock.looks else 100

    clock.watch()

    assert clock.looks[0] == 0.02
    assert clock.looks[1] < 0.6
    assert clock.looks[2] > 10


def test_growth_is_seen_within_a_second_on_a_slow_machine(clock: Clock) -> None:
    """Under emulation the size of one process takes milliseconds to read."""
    clock.reading_s = 0.005
    clock.resident = lambda: 100 if clock.now < 6 else 10_000

    clock.watch()

    assert 6 <= clock.looks[1] < 7.6


def test_growth_is_looked_at_at_once(clock: Clock) -> None:
    """A program that allocates its arrays after a look that was dear: the next sees them."""
    clock.resident = lambda: 100 if clock.now < 3 else 10_000 if clock.now < 8 else 11_000

    clock.watch()

    assert clock.looks[0] == 0.02
    assert 3 <= clock.looks[1] < 3.6
    assert 13 <= clock.looks[2] < 14.2  # a tenth more is not worth a dear look
