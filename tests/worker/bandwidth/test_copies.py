"""Copies by themselves on the simulated device: planted rates, latencies, gaps, wrong data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from numa_bench.records import BandwidthSpec, JsonDict, RunSpec
from numa_bench.worker.__main__ import build_result
from numa_bench.worker.bandwidth import device as device_module
from numa_bench.worker.bandwidth.copies import BOTH, D2H, H2D, CopyTimer, HostPair
from numa_bench.worker.bandwidth.copy_memory import allocate_kind
from numa_bench.worker.bandwidth.device import Point, list_points, measure_device_bandwidth
from numa_bench.worker.bandwidth.rounds import measure_in_rounds
from numa_bench.worker.devices import Device
from tests.simulation.engines import TimedEvent, TimedStream
from tests.simulation.links import Links
from tests.simulation.timing import TimingRuntime
from tests.specs import make_spec

MIB = 1 << 20
LINKS = Links(
    h2d_bytes_per_s=0.5e9,
    d2h_bytes_per_s=0.25e9,
    both_bytes_per_s=0.6e9,
    pageable_bytes_per_s=0.1e9,
    latency_s=4e-6,
    kernel_s=3e-6,
    launch_s=5e-6,
    submit_s=2e-6,
    event_s=1e-7,
)


def make_timer(nbytes: int = MIB, links: Links = LINKS) -> tuple[CopyTimer, TimingRuntime]:
    runtime = TimingRuntime(links)
    return CopyTimer(runtime, nbytes), runtime


def make_pair(timer: CopyTimer, runtime: TimingRuntime, kind: str = "registered") -> HostPair:
    memory = allocate_kind(kind, MIB, runtime, seed=0)
    _KEPT.append(memory)  # its buffers are unregistered with it
    timer.fill(memory.pair)
    return memory.pair


_KEPT: list[object] = []


def bandwidth_run(**settings: object) -> RunSpec:
    bandwidth = BandwidthSpec(
        sizes_bytes=(4096, MIB),
        directions=("h2d", "d2h", "both", "latency"),
        memory=("registered", "pinned", "pageable"),
        rounds=3,
        budget_s=10.0,
    )
    spec = replace(make_spec(kind="cuda"), workload="bandwidth")
    return replace(spec, bandwidth=replace(bandwidth, **settings))  # type: ignore[arg-type]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> TimingRuntime:
    made = TimingRuntime(LINKS)
    monkeypatch.setattr(
        device_module, "prepare_device", lambda _: Device(made.device, made, "simulated")
    )
    return made


def measure(spec: RunSpec) -> JsonDict:
    return build_result(spec, list(measure_device_bandwidth(spec))).to_dict()


@pytest.mark.parametrize("kind", ["registered", "registered_huge", "pinned"])
def test_one_way_rates_are_those_of_the_link(kind: str) -> None:
    timer, runtime = make_timer()
    pair = make_pair(timer, runtime, kind)

    h2d = timer.time_copies(H2D, pair, MIB)
    d2h = timer.time_copies(D2H, pair, MIB)

    assert h2d.gb_per_s == pytest.approx(MIB / (MIB / 0.5 + 4e3), rel=0.01)
    assert d2h.gb_per_s == pytest.approx(MIB / (MIB / 0.25 + 4e3), rel=0.01)
    assert h2d.held
    assert d2h.held


def test_both_at_once_is_what_the_link_carries_of_both() -> None:
    """H2D is twice as fast, so D2H is alone for half of its time, which must not count."""
    timer, runtime = make_timer()

    both = timer.time_copies(BOTH, make_pair(timer, runtime), MIB)

    assert both.gb_per_s == pytest.approx(0.6, rel=0.01)
    assert both.h2d_gb_per_s == pytest.approx(0.4, rel=0.01)
    assert both.d2h_gb_per_s == pytest.approx(0.2, rel=0.02)
    assert both.overlap == pytest.approx(0.6, abs=0.15)


def test_pageable_copies_are_timed_with_what_the_host_does() -> None:
    timer, runtime = make_timer()

    rate = timer.time_copies(H2D, make_pair(timer, runtime, "pageable"), MIB).gb_per_s

    assert rate == pytest.approx(MIB / (MIB / 0.1 + 6e3), rel=0.01)


def test_latencies_are_round_trips() -> None:
    timer, runtime = make_timer()
    pair = make_pair(timer, runtime)

    assert timer.time_small_copy(pair) == pytest.approx(2 + 4 + 4096 / 0.5e3, rel=0.01)
    assert timer.time_launch() == pytest.approx(5 + 3, rel=0.01)


def test_a_slow_host_spins_longer_instead_of_leaving_gaps() -> None:
    """16 submissions of 1 ms each do not fit into the first spin of 2 ms."""
    slow = replace(LINKS, submit_s=1e-3)
    timer, runtime = make_timer(links=slow)

    sample = timer.time_copies(H2D, make_pair(timer, runtime), 4096)

    assert sample.held
    assert sample.gb_per_s == pytest.approx(4096 / (4096 / 0.5 + 4e3), rel=0.01)


def test_one_interruption_of_the_host_does_not_lengthen_later_spins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All points of a run share one timer, and its rounds a budget of seconds."""
    timer, runtime = make_timer()
    pair = make_pair(timer, runtime)
    copy, hold = runtime.copy, runtime.hold_stream
    spins: list[float] = []

    def copy_after_a_pause(target: torch.Tensor, source: torch.Tensor) -> None:
        if len(spins) == 1:
            runtime.wait_until(runtime.host_time() + 0.05)
        copy(target, source)

    def note_spin(seconds: float) -> None:
        spins.append(seconds)
        hold(seconds)

    monkeypatch.setattr(runtime, "hold_stream", note_spin)
    monkeypatch.setattr(runtime, "copy", copy_after_a_pause)

    samples = [timer.time_copies(H2D, pair, MIB) for _ in range(3)]

    assert all(sample.held for sample in samples)
    assert spins[1] > 0.05
    assert spins[2:] == [spins[0]] * 2


def test_both_ways_small_copies_follow_each_other_as_one_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a device the end of an event takes about as long as a small copy."""
    timer, runtime = make_timer()
    pair = make_pair(timer, runtime)
    record = runtime.record_event
    recorded: list[TimedEvent] = []

    def note_event(event: TimedEvent, stream: TimedStream | None) -> None:
        recorded.append(event)
        record(event, stream)

    monkeypatch.setattr(runtime, "record_event", note_event)

    timer.time_copies(BOTH, pair, 4096)

    assert len(recorded) == 1 + 2 * 5


def test_data_that_do_not_come_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    timer, runtime = make_timer()
    pair = make_pair(timer, runtime)
    assert timer.returns_pattern(pair, MIB)

    copy = runtime.copy

    def lose_the_last_byte(target: torch.Tensor, source: torch.Tensor) -> None:
        copy(target[:-1], source[:-1])

    monkeypatch.setattr(runtime, "copy", lose_the_last_byte)
    assert not timer.returns_pattern(pair, MIB)


@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_a_run_has_every_point_with_its_samples() -> None:
    result = measure(bandwidth_run())

    assert result["status"] == "passed"
    points = {(p["operation"], p["size_bytes"], p["memory"]) for p in result["series"]}
    copies = {
        (operation, size, memory)
        for operation in ("h2d", "d2h", "both")
        for size in (4096, MIB)
        for memory in ("registered", "pinned", "pageable")
        if (operation, memory) != ("both", "pageable")
    }
    small = {("small_copy", 4096, memory) for memory in ("registered", "pinned", "pageable")}
    assert points == copies | small | {("launch", None, None)}
    assert {len(point["samples"]) for point in result["series"]} == {3}
    assert result["observed"]["copies_checked"] is True
    by_host = {p["memory"] for p in result["series"] if p["timed_by"] == "host" and "gb_per_s" in p}
    assert by_host == {"pageable"}
    metrics = result["metrics"]
    assert metrics["h2d_gb_per_s"] == pytest.approx(0.5, rel=0.02)
    assert metrics["duplex_gb_per_s"] == pytest.approx(0.6, rel=0.02)
    assert metrics["launch_latency_us"] == pytest.approx(8, rel=0.02)


def test_sizes_that_do_not_fit_are_left_out_and_named(
    runtime: TimingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "free_memory_bytes", lambda: 2 * MIB)

    result = measure(bandwidth_run())

    assert {p["size_bytes"] for p in result["series"]} == {4096, None}
    assert any("1 MB left out, the device" in warning for warning in result["warnings"])


def test_no_size_that_fits_is_an_error(
    runtime: TimingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "free_memory_bytes", lambda: 4096)

    with pytest.raises(RuntimeError, match=r"no size fits.*experiment\.bandwidth\.sizes"):
        measure(bandwidth_run())


@pytest.mark.usefixtures("runtime")
def test_changed_data_make_a_run_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopyTimer, "returns_pattern", lambda *_: False)

    result = measure(bandwidth_run(memory=("registered",)))

    assert result["status"] == "invalid"
    assert "changed 4096 bytes of registered memory" in result["error"]


def test_points_of_one_direction_only() -> None:
    wanted = bandwidth_run(directions=("latency",), memory=("registered",)).bandwidth
    assert wanted is not None

    assert list_points(wanted, (MIB,)) == [Point("small_copy", 4096, "registered"), Point("launch")]


class Clock:
    """A clock that a measurement of `step` seconds advances."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step
        self.order: list[str] = []

    def measure(self, point: str) -> float:
        self.now += self.step
        self.order.append(point)
        return self.now

    def read(self) -> float:
        return self.now


def test_points_take_turns_and_the_first_round_is_dropped() -> None:
    clock = Clock(1.0)

    rounds = measure_in_rounds(
        ("a", "b", "c"), clock.measure, rounds=4, budget_s=1e9, seed=0, now=clock.read
    )

    blocks = [clock.order[i : i + 3] for i in range(0, 15, 3)]
    assert [sorted(block) for block in blocks] == [["a", "b", "c"]] * 5
    assert len({tuple(block) for block in blocks}) > 1
    assert rounds.count == 4
    assert [len(samples) for samples in rounds.samples] == [4, 4, 4]
    assert min(min(samples) for samples in rounds.samples) > 3


@pytest.mark.parametrize(("budget_s", "count"), [(0.1, 1), (9.0, 2), (12.5, 3)])
def test_rounds_end_within_the_budget_but_one_is_measured(budget_s: float, count: int) -> None:
    clock = Clock(1.0)

    rounds = measure_in_rounds(
        ("a", "b", "c"), clock.measure, rounds=10, budget_s=budget_s, seed=0, now=clock.read
    )

    assert rounds.count == count
