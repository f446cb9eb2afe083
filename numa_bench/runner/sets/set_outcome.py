"""How a set of workers ended and what it measured: the status, the metrics, a line per worker."""

from __future__ import annotations

from collections.abc import Mapping

from numa_bench.machine.model import Topology
from numa_bench.records import (
    JsonDict,
    Member,
    RunResult,
    RunSpec,
    Status,
    WorkerValues,
)
from numa_bench.runner.outcome import classify_outcome
from numa_bench.runner.process import Ended
from numa_bench.runner.sets.common_window import (
    CommonWindow,
    compute_fairness,
    compute_slowest_share,
    find_common_window,
    measure_rate,
)
from numa_bench.runner.sets.processes import STOPPED
from numa_bench.runner.sets.set_monitor import name_worker
from numa_bench.runner.worker_run import read_last_lines, read_result, timed_window
from numa_bench.store import StudyStore

#: Which status a set has when its workers differ: the first of these that one of them has.
_WORST = (Status.FAILED, Status.WAIVED, Status.INVALID)


class SetOutcome:
    """How the workers of a set ended, and what they measured."""

    def __init__(self, spec: RunSpec, ended: Mapping[str, Ended]) -> None:
        self.spec = spec
        self.ended = ended
        self.results: dict[str, RunResult] = {}
        self.verdicts: dict[str, tuple[Status | None, str | None]] = {}
        self.culprit: str | None = None
        self.window: CommonWindow | None = None

    def read(self, store: StudyStore, topology: Topology, error_lines: int) -> None:
        """Read what the workers left, and judge each by itself."""
        for member in self.spec.members:
            paths = store.run_paths(self.spec.run_id, member.name)
            result, problem = read_result(paths)
            if result is not None:
                self.results[member.name] = result
            ended = self.ended[member.name]
            tail = read_last_lines(paths.stderr, error_lines)
            # A worker that was ended because of another has no verdict of its own.
            self.verdicts[member.name] = (
                (None, None)
                if ended.reason == STOPPED
                else classify_outcome(member.spec, ended, result, problem, tail, topology)
            )

    def judge(self) -> tuple[Status, str | None]:
        """The status of the set and its error; finds the common window of a set that ran."""
        reasons = {name: one.reason for name, one in self.ended.items()}
        if "interrupted" in reasons.values():
            return Status.INTERRUPTED, "interrupted by the user"
        late = [name for name, reason in reasons.items() if reason == "timeout"]
        if late:
            self.culprit = late[0]
            limit = f"{self.spec.test.timeout_s:g}"
            return Status.TIMEOUT, (
                f"stopped after timeout_s={limit}; raise it or measure less; still running: "
                f"{', '.join(late)}"
            )
        found = self._find_culprit()
        if found is not None:
            return found
        self.window, problem = find_common_window(self.spec.members, self.results)
        return (Status.PASSED, None) if problem is None else (Status.INVALID, problem)

    def _find_culprit(self) -> tuple[Status, str | None] | None:
        """The worst that happened to a worker; None: all passed."""
        for name, one in self.ended.items():
            if one.start_error is not None:
                self.culprit = name
                return Status.FAILED, f"worker {name} could not be started: {one.start_error}"
        for status in _WORST:
            for name, (own, error) in self.verdicts.items():
                if own is status:
                    self.culprit = name
                    return status, f"worker {name}: {error}"
        early = [name for name, one in self.ended.items() if one.reason == STOPPED]
        if early:
            ended = [n for n, one in self.ended.items() if one.reason != STOPPED]
            return Status.FAILED, f"{', '.join(ended)} ended before the set was done"
        return None

    def rates(self) -> dict[str, float]:
        """Samples or bytes per second of each worker in the common window."""
        if self.window is None:
            return {}
        return {
            member.name: measure_rate(member, self.results[member.name], self.window)
            for member in self.spec.members
        }

    def describe_workers(self) -> list[WorkerValues]:
        """What the record says of each worker."""
        rates = self.rates()
        return [self._describe(member, rates.get(member.name)) for member in self.spec.members]

    def _describe(self, member: Member, rate: float | None) -> WorkerValues:
        place, ended = member.spec.placement, self.ended[member.name]
        status, error = self.verdicts.get(member.name, (None, None))
        result = self.results.get(member.name)
        streams = member.spec.stream is not None
        known = status.value if status is not None else ended.reason
        failed = ended.start_error is not None and ended.reason != "interrupted"
        return {
            "name": member.name,
            "role": member.role,
            "gpu_id": member.spec.device.gpu_id,
            "numa_node": place.numa_node,
            "memory_node": place.memory_nodes[0] if len(place.memory_nodes) == 1 else None,
            "placement": place.label,
            "status": Status.FAILED.value if failed else known,
            "error": error or ended.start_error,
            "throughput_samples_per_s": None if streams else rate,
            "gb_per_s": rate / 1e9 if streams and rate is not None else None,
            "placement_fraction": _metric(result, "placement_fraction"),
            "window_s": result.observed.get("window_host_s") if result is not None else None,
        }

    def combine(self) -> RunResult:
        """The set's result: totals over the common window, and what holds for all workers."""
        spec, rates = self.spec, self.rates()
        counted = [rates[member.name] for member in spec.measured if member.name in rates]
        streams = spec.measured[0].spec.stream is not None
        results = [r for r in (self.results.get(m.name) for m in spec.members) if r is not None]
        fractions = [
            f for f in (_metric(r, "placement_fraction") for r in results) if f is not None
        ]
        window = self.window
        metrics: dict[str, float | None] = {
            "fairness": compute_fairness(counted),
            "slowest_worker_share": compute_slowest_share(counted),
            "placement_fraction": min(fractions, default=None),
            "measured_s": window.length_s if window is not None else None,
        }
        if counted and window is not None:
            total = sum(counted)
            name = "stream_gb_per_s" if streams else "throughput_samples_per_s"
            metrics[name] = total / 1e9 if streams else total
            if not streams:
                metrics["measured_samples"] = total * window.length_s
        return RunResult(
            run_id=spec.run_id,
            spec_hash=spec.cell_hash(),
            status=Status.PASSED.value,
            metrics=metrics,
            observed=self._observe(),
            versions=results[0].versions if results else {},
            warnings=self._join_warnings(),
        )

    def _observe(self) -> JsonDict:
        observed: JsonDict = {}
        if self.window is not None:
            observed["common_window_s"] = [self.window.begin_s, self.window.end_s]
            observed["common_share"] = self.window.share
        windows = [timed_window(self.results.get(m.name)) for m in self.spec.measured]
        known = [window for window in windows if window is not None]
        if known and len(known) == len(windows):
            begin, end = max(w[0] for w in known), min(w[1] for w in known)
            # On a simulated machine this clock is not that of the windows.
            if begin < end:
                observed["window_monotonic_s"] = [begin, end]
        return observed

    def _join_warnings(self) -> list[str]:
        """The workers' warnings with their names; what all say for the same reason, once."""
        own, common = [], []
        for name, result in self.results.items():
            for warning in result.warnings:
                if warning.startswith("simulated: "):
                    common.append(warning)
                else:
                    own.append(name_worker(warning, name))
        return [*dict.fromkeys(common), *own]


def _metric(result: RunResult | None, name: str) -> float | None:
    return result.metrics.get(name) if result is not None else None
