"""Looks at a running command: where its memory and threads are, and how much it prints.

A thread of the runner that pins itself away from the measured CPUs. It looks more rarely where a
look would take more than `MOST_SHARE` of a CPU, but at once when the processes have grown by
`GROWTH`, so that what it saw is near the peak; its own CPU time is in the record. The monitor asks
it for the CPU time of the command, so that its processes do not count as foreign.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from numa_bench.labels import list_first
from numa_bench.machine.sysfs import format_cpu_list
from numa_bench.records import JsonDict, Placement, RunSpec, Status
from numa_bench.records.command_spec import INVALID, OFF, WARNING
from numa_bench.runner.monitor import move_away
from numa_bench.runner.process import StopRequest
from numa_bench.runner.programs.process_tree import (
    ANONYMOUS,
    KINDS,
    SHARED,
    Memory,
    find_escaped,
    list_tree,
    read_cpu_s,
    read_memory,
    read_name,
    read_resident,
)

#: Most CPU time per second of the run for looks; for lists of processes, and for their sizes.
MOST_SHARE = 0.002
LIST_SHARE = 0.001
#: The first look, so that short commands are seen; the time between two doubles up to `sample_s`.
FIRST_LOOK_S = 0.02
#: Growth of resident memory since the last look that is looked at whatever it costs. As a look's
#: cost grows with the memory, all of these together cost at most five times the last (the sum of
#: a geometric series).
GROWTH = 1.25
#: Longest time without a reading of the resident memory, whatever that costs.
LONGEST_BLIND_S = 1.0
#: Seconds between two looks at the sizes of the outputs.
OUTPUT_S = 0.5
#: Most points of the course over time; every other one is dropped when there are more.
MOST_POINTS = 200
#: Longest wait for a look that has begun when the command ends.
STOP_WAIT_S = 5.0
#: Most names of threads in a warning.
_NAMED = 3
#: Policies under which memory must be on the nodes named.
_STRICT = ("bind", "local")


class Watch:
    """Use as a context manager around a run; call `start` when the measured process exists."""

    def __init__(self, spec: RunSpec, outputs: tuple[Path, ...]) -> None:
        assert spec.command is not None
        self._command = spec.command
        self._placement = spec.placement
        self._cpus = frozenset(spec.placement.cpus)
        self._outputs = outputs
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._root = 0
        self._pids: list[int] = []
        self._list_due = 0.0
        self._cpu_s = 0.0
        self._resident, self._resident_due = 0, 0.0
        self._looks = self._unreadable = self._most_processes = 0
        self._peak: Memory = Counter()
        self._course: list[tuple[float, Counter[int]]] = []
        self._escaped: dict[int, str] = {}

    def __enter__(self) -> Watch:
        return self

    def start(self, pid: int, stop: StopRequest) -> None:
        """Look at the process `pid` and its descendants; `stop` ends it if it prints too much."""
        self._root = pid
        self._thread = threading.Thread(target=self._loop, args=(pid, stop), daemon=True)
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(STOP_WAIT_S)

    def read_cpu_s(self) -> float:
        """CPU time of the command's processes, which are listed anew where that is cheap."""
        if self._root and time.monotonic() >= self._list_due:
            self._list_processes(self._root)
        return read_cpu_s(self._pids)

    def _list_processes(self, root: int) -> list[int]:
        before = time.thread_time()
        self._pids = pids = list_tree(root)
        self._list_due = time.monotonic() + (time.thread_time() - before) / LIST_SHARE
        return pids

    @property
    def fraction(self) -> float | None:
        """The share of own memory on the nodes asked for, when most memory was in use.

        None where nothing was asked for, or nothing was seen.
        """
        wanted = self._placement.memory_nodes
        own = _count_own(self._peak)
        if not wanted or not own.total():
            return None
        return sum(own[node] for node in wanted) / own.total()

    def judge(self) -> tuple[Status, str | None]:
        """Passed, or invalid with the reason, as `placement_check` says."""
        problems = self._find_problems()
        if self._command.placement_check != INVALID or not problems:
            return Status.PASSED, None
        hint = "experiment.command.placement_check=warning accepts programs that bind themselves"
        return Status.INVALID, f"{'; '.join(problems)}; {hint}"

    def list_warnings(self) -> list[str]:
        """What is not where it was bound, or could not be seen."""
        check, placement = self._command.placement_check, self._placement
        if check == OFF or not placement.bound:
            return []
        if not self._looks:
            return ["placement: the command ended before its memory and threads were looked at"]
        found = []
        if placement.memory_nodes and self.fraction is None:
            found.append("placement: the kernel does not say where the command's memory was")
        if self._unreadable:
            found.append("placement: the memory of some processes may not be looked at")
        problems = self._find_problems() if check == WARNING else []
        return [*found, *(f"misplaced: {problem}" for problem in problems)]

    def describe(self, window: tuple[float, float] | None) -> JsonDict:
        """What was seen, for the record: bytes by kind and node at the peak, and the course.

        `course` has the seconds since the start, and own memory (anonymous and shared) by node.
        """
        begin = window[0] if window else (self._course[0][0] if self._course else 0.0)
        nodes = sorted({node for _, memory in self._course for node in memory})
        peak = {
            kind: {str(n): size for (k, n), size in sorted(self._peak.items()) if k == kind}
            for kind in KINDS
        }
        return {
            "memory_at_peak": {kind: sizes for kind, sizes in peak.items() if sizes},
            "course": {
                "seconds": [round(at - begin, 3) for at, _ in self._course],
                "bytes": {str(n): [memory[n] for _, memory in self._course] for n in nodes},
            },
            "processes": self._most_processes,
            "escaped_threads": len(self._escaped),
            "looks": self._looks,
            "watch_cpu_s": round(self._cpu_s, 4),
        }

    def _find_problems(self) -> list[str]:
        problems = []
        placement, least = self._placement, self._command.least_fraction
        if placement.policy in _STRICT and self.fraction is not None and self.fraction < least:
            nodes = format_cpu_list(placement.memory_nodes)
            where = ", ".join(
                f"node {node}: {size / 1e6:,.0f} MB"
                for node, size in sorted(_count_own(self._peak).items())
            )
            problems.append(
                f"only {self.fraction:.1%} of the memory was on node {nodes} at its peak ({where})"
            )
        if self._escaped:
            names = list_first(list(self._escaped.values()), _NAMED)
            problems.append(f"threads could run outside {_name_cpus(placement)}: {names}")
        return problems

    def _loop(self, root: int, stop: StopRequest) -> None:
        move_away(self._placement.cpus)
        begin_cpu = time.thread_time()
        looking = self._command.placement_check != OFF
        pause = FIRST_LOOK_S if looking else OUTPUT_S
        due, paid = time.monotonic() + pause, 0.0
        while not self._done.wait(max(0.0, min(due - time.monotonic(), OUTPUT_S))):
            self._check_output(stop)
            now = time.monotonic()
            if looking and now >= due:
                if now >= paid or self._has_grown(root):
                    before = time.thread_time()
                    self._look(root)
                    paid = now + (time.thread_time() - before) / MOST_SHARE
                pause = min(2 * pause, self._command.sample_s)
                due = now + pause
                self._cpu_s = time.thread_time() - begin_cpu
            elif not looking:
                due = now + OUTPUT_S

    def _has_grown(self, root: int) -> bool:
        """Whether the processes have much more memory than at the last look; False if unknown."""
        now = time.monotonic()
        if now < self._resident_due:
            return False
        if now >= self._list_due:
            self._list_processes(root)
        before = time.thread_time()
        grown = read_resident(self._pids) > GROWTH * self._resident
        pause = (time.thread_time() - before) / LIST_SHARE
        self._resident_due = now + min(pause, LONGEST_BLIND_S)
        return grown

    def _check_output(self, stop: StopRequest) -> None:
        written = sum(path.stat().st_size for path in self._outputs if path.exists())
        most = self._command.max_output_mb
        if written > most * 1e6:
            stop.ask(
                f"stopped: it wrote more than {most} MB of output; print less, or raise "
                "experiment.command.max_output_mb"
            )

    def _look(self, root: int) -> None:
        """Read memory and threads of the whole tree once."""
        # numactl becomes the command; its own memory may be anywhere.
        if read_name(root) == "numactl":
            return
        at, memory, unreadable = time.monotonic(), Counter[tuple[str, int]](), 0
        pids = self._list_processes(root)
        # Before the look: what is allocated during it may not be in it.
        resident = read_resident(pids)
        for pid in pids:
            own = read_memory(pid)
            if own is None:
                unreadable += bool(read_name(pid))  # one that has ended hides nothing
            else:
                memory.update(own)
            if self._placement.numa_node is not None and self._cpus:
                for thread, allowed in find_escaped(pid, self._cpus):
                    name = f"{read_name(thread)} ({thread}) on {format_cpu_list(allowed)}"
                    self._escaped.setdefault(thread, name)
        if not memory:
            return
        self._looks += 1
        self._resident = resident
        self._unreadable += unreadable
        self._most_processes = max(self._most_processes, len(pids))
        own_by_node = _count_own(memory)
        if own_by_node.total() >= _count_own(self._peak).total():
            self._peak = memory
        self._course.append((at, own_by_node))
        if len(self._course) > MOST_POINTS:
            self._course = self._course[::2]


def _count_own(memory: Memory) -> Counter[int]:
    """The program's own memory by node: what follows its policy."""
    own: Counter[int] = Counter()
    for (kind, node), size in memory.items():
        if kind in (ANONYMOUS, SHARED):
            own[node] += size
    return own


def _name_cpus(placement: Placement) -> str:
    return f"CPUs {format_cpu_list(placement.cpus)} of node {placement.numa_node}"
