"""A bandwidth run on the CPU: its series, their order, and what makes it waived or invalid."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.machine import backend as backend_module
from numa_bench.machine import page_placement
from numa_bench.machine.backend import Backend
from numa_bench.records import BandwidthSpec, Placement, ProfileSpec, RunResult, RunSpec
from numa_bench.worker import __main__ as worker
from numa_bench.worker.bandwidth import host, host_memory, series
from numa_bench.worker.memory_kernels import build
from numa_bench.worker.memory_kernels import kernels as kernels_module
from numa_bench.worker.memory_kernels.kernels import LibraryKernels, Span
from tests.simulation.planted_kernels import PlantedKernels
from tests.specs import make_spec

RATES = {"read": 20.0, "write": 8.0, "copy": 12.0}
LATENCY_NS = 130.0
BANDWIDTH = BandwidthSpec(
    sizes_bytes=(4096, 65536),
    directions=("read", "write", "copy", "latency"),
    memory=("pageable", "huge"),
    rounds=3,
    budget_s=60.0,
)
BOUND = Placement(0, (0,), "bind", "local", tuple(sorted(os.sched_getaffinity(0))))


def make_run(
    bandwidth: BandwidthSpec | None = BANDWIDTH, *, cpu_threads: int | None = None, **parts: Any
) -> RunSpec:
    spec = make_spec(cpu_threads=cpu_threads)
    return replace(spec, workload="bandwidth", bandwidth=bandwidth, **parts)


def measure(spec: RunSpec) -> RunResult:
    return worker.run_spec(spec, worker.Files(Path("unused")))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> PlantedKernels:
    """Planted kernels in place of those of this machine."""
    kernels = PlantedKernels(RATES, LATENCY_NS)
    use_backend(monkeypatch, Backend(memory_kernels=lambda: kernels))
    return kernels


def use_backend(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    for module in (backend_module, kernels_module, page_placement):
        monkeypatch.setattr(module, "current_backend", lambda: backend)


@pytest.mark.usefixtures("planted")
def test_every_point_is_in_the_series_with_what_was_planted() -> None:
    result = measure(make_run())

    assert (result.status, result.error) == ("passed", None)
    points = [(p["memory"], p["size_bytes"], p["operation"]) for p in result.series]
    assert points == [
        (memory, size, operation)
        for memory in BANDWIDTH.memory
        for size in BANDWIDTH.sizes_bytes
        for operation in BANDWIDTH.directions
    ]
    for point in result.series:
        if point["operation"] == "latency":
            expected, unit, threads = LATENCY_NS, "latency_ns", 1
        else:
            expected, unit = RATES[point["operation"]], "gb_per_s"
            threads = len(os.sched_getaffinity(0))
        assert point[unit] == pytest.approx(expected, rel=0.02)
        assert point["samples"] == pytest.approx([expected] * 3, rel=0.02)
        assert point["threads"] == threads
        assert set(point) == {
            *("operation", "size_bytes", "memory", unit, "samples", "threads"),
            "huge_page_fraction",
        }


def test_the_metrics_are_those_of_the_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    class Caches(PlantedKernels):
        """Small arrays are ten times as fast."""

        def _advance(self, seconds: float) -> tuple[float, float]:
            small = self.calls[-1][1] < 65536 // 64
            return super()._advance(seconds / 10 if small else seconds)

    kernels = Caches(RATES, LATENCY_NS)
    use_backend(monkeypatch, Backend(memory_kernels=lambda: kernels))

    one = replace(BANDWIDTH, sizes_bytes=(65536, 512), memory=("pageable",))
    result = measure(make_run(one, cpu_threads=1))

    for operation, rate in RATES.items():
        assert result.metrics[f"{operation}_gb_per_s"] == pytest.approx(rate, rel=0.02)
    assert result.metrics["load_latency_ns"] == pytest.approx(LATENCY_NS, rel=0.02)
    (small,) = [p for p in result.series if (p["operation"], p["size_bytes"]) == ("read", 512)]
    assert small["gb_per_s"] == pytest.approx(10 * RATES["read"], rel=0.02)


def test_samples_of_the_points_take_turns(planted: PlantedKernels) -> None:
    one = replace(BANDWIDTH, memory=("pageable",), sizes_bytes=(128, 256))
    measure(make_run(one, cpu_threads=1))

    round_of_all = [(operation, size) for size in (128, 256) for operation in BANDWIDTH.directions]
    assert planted.calls[-3 * len(round_of_all) :] == round_of_all * 3


@pytest.mark.usefixtures("planted")
def test_the_budget_leaves_out_whole_rounds() -> None:
    result = measure(make_run(replace(BANDWIDTH, rounds=50, budget_s=1e-6)))

    assert result.status == "passed"
    assert {len(point["samples"]) for point in result.series} == {1}
    assert result.observed["rounds"] == 1
    assert "rounds: 1 of 50 in 1e-06 s" in result.warnings


def test_without_kernels_the_run_is_waived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_library", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    result = measure(make_run())

    assert result.status == "waived"
    assert result.error is not None
    assert "run: python -m numa_bench.worker.memory_kernels.build" in result.error


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"directions": ("read", "h2d")}, "directions ['h2d'] are none of read, write, copy"),
        ({"memory": ("pinned",)}, "memory 'pinned' is none of pageable, huge"),
        ({"sizes_bytes": (4096, 100)}, "sizes [100] are no positive multiples of 64"),
    ],
)
def test_what_a_cpu_cannot_measure_fails(change: dict[str, Any], words: str) -> None:
    result = measure(make_run(replace(BANDWIDTH, **change)))

    assert result.status == "failed"
    assert result.error is not None
    assert words in result.error


def test_a_bandwidth_run_says_what_it_measures() -> None:
    assert "says nothing of sizes" in str(measure(make_run(None)).error)


def test_memory_elsewhere_makes_it_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = PlantedKernels(RATES, LATENCY_NS)
    elsewhere = Backend(
        memory_kernels=lambda: kernels, locate_pages=lambda _: Counter({0: 50, 1: 50})
    )
    use_backend(monkeypatch, elsewhere)

    result = measure(make_run(placement=BOUND))

    assert result.status == "invalid"
    assert (
        result.error == "only 50.0% of buffer pages are on node 0 (pages: node 0: 50, node 1: 50)"
    )
    assert result.metrics["placement_fraction"] == 0.5
    assert result.series


def test_every_buffer_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, asked = PlantedKernels(RATES, LATENCY_NS), []

    def locate(buffers: Any) -> Counter[int]:
        asked.append(sum(nbytes for _, nbytes in buffers))
        return Counter({0: 100})

    use_backend(monkeypatch, Backend(memory_kernels=lambda: kernels, locate_pages=locate))

    spec = make_run(replace(BANDWIDTH, memory=("pageable",)), placement=BOUND)
    result = measure(spec)

    assert result.status == "passed"
    assert result.metrics["placement_fraction"] == 1.0
    # Two arrays of the largest size, and a chain of each.
    assert asked[-1] == 2 * 65536 + 65536 + 4096


def test_a_kernel_that_hides_its_pages_waives_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = PlantedKernels(RATES, LATENCY_NS)
    use_backend(
        monkeypatch, Backend(memory_kernels=lambda: kernels, locate_pages=lambda _: Counter())
    )

    result = measure(make_run(placement=BOUND))

    assert result.status == "waived"
    assert "cannot be verified" in str(result.error)
    assert kernels.calls == []


class _WrongRead(PlantedKernels):
    def read(self, *arguments: Any, **options: Any) -> Span:
        span = super().read(*arguments, **options)
        return span._replace(value=span.value + 1)


class _NoWrite(PlantedKernels):
    def write(self, *_: Any, **__: Any) -> Span:
        return Span(0.0, 1.0)


class _NoCopy(PlantedKernels):
    def copy(self, *_: Any, **__: Any) -> Span:
        return Span(0.0, 1.0)


class _ShortChase(PlantedKernels):
    def chase(self, address: int, nbytes: int, start: int, loads: int) -> Span:
        return super().chase(address, nbytes, start, loads - 1)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (_WrongRead, "the read kernel did not read"),
        (_NoWrite, "the write kernel did not write"),
        (_NoCopy, "the copy kernel did not copy"),
        (_ShortChase, "does not come back after 64 loads"),
    ],
)
def test_a_kernel_that_does_not_do_its_work_is_found(
    broken: type[PlantedKernels], words: str
) -> None:
    memory = host_memory.make_memory("pageable", 4096, (4096,), seed=0)

    assert host_memory.check_kernels(PlantedKernels(RATES, LATENCY_NS), memory) is None
    assert words in str(host_memory.check_kernels(broken(RATES, LATENCY_NS), memory))


def test_a_broken_kernel_makes_the_run_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    use_backend(monkeypatch, Backend(memory_kernels=lambda: _WrongRead(RATES, LATENCY_NS)))

    assert measure(make_run()).status == "invalid"


@pytest.mark.usefixtures("planted")
def test_huge_pages_that_were_not_given_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "measure_huge_fraction", lambda *_: 0.25)

    result = measure(make_run())

    assert result.warnings.count("huge_pages: only 25.0% of the memory asked for is in them") == 1
    assert {point["huge_page_fraction"] for point in result.series} == {0.25}


@pytest.mark.usefixtures("planted")
def test_threads_are_those_asked_for() -> None:
    allowed = len(os.sched_getaffinity(0))
    one = measure(make_run(cpu_threads=1))
    many = measure(make_run(cpu_threads=allowed + 5))

    assert one.series[0]["threads"] == one.observed["cpu_threads"] == 1
    assert many.observed["cpu_threads"] == allowed
    assert f"threads: {allowed + 5} asked for, {allowed} used: one for each CPU" in many.warnings


@pytest.mark.usefixtures("planted")
def test_a_profiler_that_was_asked_for_is_mentioned() -> None:
    result = measure(make_run(profile=ProfileSpec(kind="torch")))

    assert "profiler: torch records nothing of a bandwidth run on the CPU" in result.warnings


def test_a_simulation_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_simulation_warnings", lambda: ("simulated: planted",))
    use_backend(monkeypatch, Backend(memory_kernels=lambda: PlantedKernels(RATES, LATENCY_NS)))

    assert "simulated: planted" in measure(make_run()).warnings


@pytest.mark.usefixtures("planted")
def test_the_window_is_where_the_monitor_finds_it() -> None:
    result = measure(make_run())

    begin, end = result.observed["window_monotonic_s"]
    assert result.metrics["measured_s"] == end - begin > 0


def test_a_spec_survives_json_and_is_part_of_the_cell() -> None:
    spec = make_run()

    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    other = replace(spec, bandwidth=replace(BANDWIDTH, rounds=4))
    assert other.cell_hash() != spec.cell_hash()
    assert "bandwidth" not in make_spec().cell()


def test_a_result_keeps_its_series() -> None:
    result = RunResult("id", "hash", "passed", series=[{"operation": "read"}])

    assert RunResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    with pytest.raises(TypeError, match="series is of the wrong type"):
        RunResult.from_dict({**result.to_dict(), "series": {}})


def test_rounds_end_before_the_budget_would(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Slow:
        threads = 1

        def calibrate(self, seconds: float) -> None:
            assert seconds == series.SAMPLE_S
            clock[0] += 1

        def sample(self) -> float:
            clock[0] += 2
            return 1.0

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    points = [series.SeriesPoint("read", 64, "pageable", "gb_per_s", Slow()) for _ in range(2)]

    # Calibrating takes 2 s and a round 4 s: two rounds end at 10 s, and a third would at 14 s.
    assert series.sample_in_turn(points, rounds=9, budget_s=13.0) == 2
    assert [len(point.samples) for point in points] == [2, 2]


@pytest.mark.slow
def test_the_memory_of_this_machine(
    library: LibraryKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_backend(monkeypatch, Backend(memory_kernels=lambda: library))
    small = replace(BANDWIDTH, sizes_bytes=(4096, 1 << 20), rounds=2, budget_s=1.0)

    result = measure(make_run(small))

    assert (result.status, result.error) == ("passed", None)
    assert all(sample > 0 for point in result.series for sample in point["samples"])
    assert {"read_gb_per_s", "write_gb_per_s", "copy_gb_per_s", "load_latency_ns"} <= {
        name for name, value in result.metrics.items() if value
    }
