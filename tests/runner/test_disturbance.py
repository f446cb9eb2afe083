"""What is called a disturbance, and what is not."""

from __future__ import annotations

import random

import pytest

from numa_bench.marks import KINDS, format_legend, format_marks, warning_code
from numa_bench.runner.disturbance import (
    find_monitor_warnings,
    find_pauses,
    find_sample_warnings,
    measure_trend,
)

SETTLED = {"settled": True, "batches": 6, "seconds": 0.5}


def samples(compute: list[float]) -> dict[str, list[float]]:
    return {"h2d_ms": [1.0] * len(compute), "compute_ms": compute, "d2h_ms": [0.5] * len(compute)}


def noisy(
    count: int, *, mean: float = 100.0, sigma: float = 1.0, drift: float = 0.0
) -> list[float]:
    noise = random.Random(7)
    return [mean * (1 + drift * i / count) + noise.gauss(0, sigma) for i in range(count)]


def codes(warnings: list[str]) -> set[str]:
    return {warning_code(warning) for warning in warnings}


def test_a_steady_run_has_none() -> None:
    assert find_sample_warnings(samples(noisy(60)), SETTLED) == []


def test_host_work_is_part_of_a_batch() -> None:
    steady = samples([1.0] * 60)
    busy = {**steady, "host_ms": noisy(60, mean=10, sigma=4)}

    assert find_sample_warnings(steady, SETTLED) == []
    assert codes(find_sample_warnings(busy, SETTLED)) == {"spread"}


def test_unsettled_warm_up() -> None:
    found = find_sample_warnings(
        samples(noisy(60)), {"settled": False, "batches": 3, "seconds": 5.0}
    )
    assert codes(found) == {"unsettled"}


def test_wide_spread() -> None:
    assert "spread" in codes(find_sample_warnings(samples(noisy(60, sigma=20.0)), SETTLED))


def test_drift() -> None:
    (warning,) = find_sample_warnings(samples(noisy(60, drift=0.15)), SETTLED)
    assert warning_code(warning) == "trend"
    assert "+9.3%" in warning


def test_a_run_without_batches_has_not_too_few() -> None:
    assert find_sample_warnings({}, {}) == []


def test_few_batches_are_named_and_say_nothing_of_spread_or_trend() -> None:
    assert codes(find_sample_warnings(samples([1.0, 50.0, 100.0]), SETTLED)) == {"few"}


def test_a_worker_that_was_stopped_for_half_of_its_window() -> None:
    """Throughput halves, while quartiles and thirds see nothing."""
    times = noisy(300, mean=8.0, sigma=0.2)
    times[200] += 2500.0
    (warning,) = find_sample_warnings(samples(times), SETTLED)
    assert warning == "pause: a batch took 2500 ms more than the median, 47% of the window"
    assert format_marks([warning]) == "I"
    assert format_legend([warning])[0].startswith("I: ")


def test_a_stop_that_no_kernel_shows_is_in_the_starts() -> None:
    """On a GPU the stages take as long as ever; the next batch is submitted late."""
    steady = samples([8.0] * 300)
    starts = [8.0 * i + (2500.0 if i > 200 else 0.0) for i in range(300)]
    assert find_sample_warnings({**steady, "start_ms": [8.0 * i for i in range(300)]}, {}) == []
    assert codes(find_sample_warnings({**steady, "start_ms": starts}, {})) == {"pause"}


def test_a_pause_of_the_last_batch_is_a_share_of_the_whole_window() -> None:
    busy = [10.0] * 99 + [990.0]
    starts = [10.0 * i for i in range(100)]

    (warning,) = find_pauses(busy, starts)

    assert warning == "pause: a batch took 980 ms more than the median, 49% of the window"


@pytest.mark.parametrize(("pause_ms", "expected"), [(15.0, set()), (25.0, {"pause"})])
def test_a_pause_counts_from_two_percent_of_the_window(pause_ms: float, expected: set[str]) -> None:
    times = [10.0] * 100
    times[50] += pause_ms
    quick = {"h2d_ms": [0.0] * 100, "compute_ms": times, "d2h_ms": [0.0] * 100}
    assert codes(find_sample_warnings(quick, SETTLED)) == expected


def test_noise_is_no_pause() -> None:
    alarms = 0
    for seed in range(300):
        noise = random.Random(seed)
        count = noise.choice([12, 30, 100, 1000])
        values = [100 + noise.gauss(0, 8) for _ in range(count)]
        alarms += "pause" in codes(find_sample_warnings(samples(values), SETTLED))
    assert alarms <= 3


def of_readings(name: str, *values: float) -> dict[str, dict[str, float]]:
    middle = sorted(values)[len(values) // 2]
    return {name: {"min": min(values), "median": middle, "max": max(values)}}


@pytest.mark.parametrize(
    ("name", "code", "small"),
    [("cpu_foreign", "foreign_cpu", 0.08), ("cpu_steal", "steal", 0.04)],
)
def test_a_single_reading_that_is_far_out(name: str, code: str, small: float) -> None:
    burst = find_monitor_warnings(of_readings(name, 0.0, 0.0, 0.5, 0.0, 0.0), 5)
    assert codes(burst) == {code}
    assert "50% of the measured CPUs in one reading" in burst[0]
    assert find_monitor_warnings(of_readings(name, 0.0, 0.0, small, 0.0, 0.0), 5) == []
    # Among very many readings it changes no throughput.
    assert find_monitor_warnings(of_readings(name, 0.0, 0.0, 0.5), 1000) == []


def test_noise_is_no_trend() -> None:
    false_alarms = 0
    for seed in range(200):
        noise = random.Random(seed)
        values = [100 + noise.gauss(0, 8) for _ in range(30)]
        false_alarms += measure_trend(values) != 0
    assert false_alarms <= 10


def of_one(name: str, value: float) -> dict[str, dict[str, float]]:
    return {name: {"min": value, "median": value, "max": value}}


@pytest.mark.parametrize(
    ("name", "quiet", "loud", "code"),
    [
        ("throttle_reasons", 0x1, 0x4, "throttled"),
        ("throttle_reasons", 0x2, 0x40, "throttled"),
        ("foreign_processes", 0, 1, "foreign_gpu"),
        ("cpu_foreign", 0.01, 0.10, "foreign_cpu"),
        ("cpu_steal", 0.001, 0.05, "steal"),
        ("swap_traffic_mb", 0, 3, "swap"),
    ],
)
def test_sensors(name: str, quiet: float, loud: float, code: str) -> None:
    assert find_monitor_warnings(of_one(name, quiet), 5) == []
    assert codes(find_monitor_warnings(of_one(name, loud), 5)) == {code}


@pytest.mark.parametrize(("name", "best"), [("generation", 5), ("width", 16)])
def test_a_pcie_link_below_its_maximum(name: str, best: int) -> None:
    full = of_one(f"pcie_{name}", best) | of_one(f"pcie_max_{name}", best)
    half = of_one(f"pcie_{name}", best - 1) | of_one(f"pcie_max_{name}", best)
    assert find_monitor_warnings(full, 5) == []
    assert codes(find_monitor_warnings(half, 5)) == {"pcie"}
    asleep = {f"pcie_{name}": {"min": 1.0, "median": 1.0, "max": float(best)}}
    assert find_monitor_warnings(asleep | of_one(f"pcie_max_{name}", best), 5) == []


def test_absent_sensors_disturb_nothing() -> None:
    assert find_monitor_warnings({}, 0) == []


def test_a_window_without_a_reading_is_said_to_be_one() -> None:
    (warning,) = find_monitor_warnings(None, 0)
    assert warning.startswith("no_reading: no sensor was read inside the timed window")
    assert format_marks([warning]) == "E"


def test_processes_that_cannot_be_told_apart_are_unknown_not_foreign() -> None:
    unknown = of_one("foreign_unknown", 1)
    assert codes(find_monitor_warnings(unknown, 5)) == {"foreign_unknown"}
    # Unknown until the worker's own context came, known afterwards.
    assert find_monitor_warnings(unknown | of_one("foreign_processes", 0), 5) == []


def test_marks_and_legend_explain_each_other() -> None:
    warnings = ["trend: x", "spread: y", "trend: z"]
    shown = format_marks(warnings)
    assert shown == "DS"
    assert [line[0] for line in format_legend(warnings)] == ["S", "D"]


def test_every_kind_has_a_mark_and_says_what_to_do() -> None:
    assert all(len(kind.mark) == 1 and kind.meaning for kind in KINDS.values())
