"""The verdict's sentences, from pooled effects made by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.stats.pooled.headline import Headline, write_headline
from numa_bench.analysis.stats.pooled.pattern import describe_pattern

COPIES, ARITHMETIC = ("copy-a", "copy-b", "copy-c"), ("math-a", "math-b", "math-c")
TARGET = 0.02


def row(change: float, half: float = 0.004, **keys: Any) -> dict[str, Any]:
    """A pooled effect; claimed where its interval excludes 0."""
    low, high = 1 + change - half, 1 + change + half
    return {
        "level": "bound", "models": COPIES, "bound": "transfer", "placement": "remote",
        "distance_text": "other socket (distance 32)", "unit_text": "", "units": 8, "gpus": 8,
        "repeats": 5, "ratio": 1 + change, "low": low, "high": high,
        "claimed": not low <= 1 <= high, "equal": low > 0.98 and high < 1.02,
        "detectable": 2 * half, "repeats_needed": 12.0, "noise_ratio": 1.0,
        "held_back": "", **keys,
    }  # fmt: skip


def models(*changes: float, **keys: Any) -> list[dict[str, Any]]:
    """One row for each of the transfer-bound models."""
    return [
        row(change, level="model", models=(name,), **keys)
        for name, change in zip(COPIES, changes, strict=True)
    ]


def units(*changes: float, **keys: Any) -> list[dict[str, Any]]:
    """One row for each GPU."""
    return [
        row(change, level="unit", unit_text=f"GPU {i}", units=1, gpus=1, **keys)
        for i, change in enumerate(changes)
    ]


def headline(*rows: dict[str, Any]) -> Headline:
    written = write_headline(pd.DataFrame(rows), TARGET)
    assert written is not None
    return written


SAME_SOCKET: dict[str, Any] = {
    "placement": "same_socket",
    "distance_text": "same socket (distance 12)",
}
COMPUTE: dict[str, Any] = {"bound": "compute", "models": ARITHMETIC}


def test_what_crossing_the_socket_costs_whom_and_whom_not() -> None:
    written = headline(
        row(-0.07),
        row(0.001, **SAME_SOCKET),
        *models(-0.07, -0.069, -0.071),
        row(0.0, **COMPUTE),
        row(0.001, **COMPUTE, **SAME_SOCKET),
    )
    assert written.effect
    assert written.text == (
        "Crossing the socket (distance 32) costs the transfer-bound models 7.0 % (95 % CI 6.6 to "
        "7.4, 8 GPUs x 5 repeats): copy-a, copy-b, copy-c. Using another node of the socket "
        "(distance 12): equal within 2 %. The compute-bound three, in every placement: equal "
        "within 2 %."
    )


def test_memory_and_cpus_apart_follow_the_placement_of_both() -> None:
    near: dict[str, Any] = {
        "distance_text": "CPUs: same node (distance 10), memory: other socket (distance 32)"
    }
    text = headline(
        row(-0.07),
        row(-0.068, placement="local/remote", **near),
        row(0.001, placement="remote/local", **near),
    ).text
    assert "; with only the memory there: 6.8 % (6.4 to 7.2); with only the CPUs there: " in text
    assert text.endswith("with only the CPUs there: equal within 2 %.")


def test_a_model_that_does_not_show_the_effect_by_itself_is_named() -> None:
    text = headline(row(-0.03), *models(-0.04, -0.045, -0.002)).text
    assert "copy-a, copy-b (not shown by itself in copy-c)" in text


def test_all_of_it_is_one_model() -> None:
    written = headline(row(-0.02, half=0.03), *models(-0.07, 0.001, 0.002))
    assert written.effect
    assert written.text.startswith(
        "Crossing the socket (distance 32) costs copy-a 7.0 % (95 % CI 6.6 to 7.4, 8 GPUs x 5 "
        "repeats); the others of the transfer-bound three: equal within 2 %."
    )


def test_all_of_it_is_two_gpus() -> None:
    written = headline(
        row(-0.05, half=0.08),
        *units(0.001, -0.2, 0.0, 0.002, -0.204, 0.001),
    )
    assert written.effect
    assert written.text == (
        "Crossing the socket (distance 32) costs the transfer-bound models 20.0 to 20.4 % on "
        "GPU 1, GPU 4 only; the four other GPUs: equal within 2 %."
    )


def test_units_that_are_far_apart_are_named() -> None:
    near, far = -0.301, -0.471
    text = headline(row(-0.391), *units(near, -0.4, far)).text
    assert ", from 30.1 % on GPU 0 to 47.1 % on GPU 2: copy-a" in text


def test_units_that_differ_in_sign_are_named_with_it() -> None:
    text = headline(row(-0.07), *units(-0.2, 0.05)).text
    assert ", from 20.0 % slower on GPU 0 to 5.0 % faster on GPU 1" in text


@pytest.mark.parametrize("half", [0.001, 0.04])
def test_units_within_the_effect_of_interest_or_their_noise_are_not_named(half: float) -> None:
    changes = (-0.30, -0.305) if half < 0.01 else (-0.30, -0.35)
    assert " from " not in headline(row(-0.32), *units(*changes, half=half)).text


def test_gpus_that_could_be_as_slow_as_the_slow_one_are_no_contrast_to_it() -> None:
    unsure = units(-0.03, half=0.002) + [
        {**unit, "unit_text": f"GPU {i}"}
        for i, unit in enumerate(units(-0.01, -0.02, half=0.03), start=1)
    ]
    assert " only" not in headline(row(-0.02, half=0.03), *unsure).text


@pytest.mark.parametrize(
    ("half", "repeats", "words"),
    [
        (0.004, 12.0, "No difference between placements: equal within 2 %"),
        (0.0205, 12.0, "repeat with experiment.repeats=12"),
        (0.0205, float("nan"), "find out what disturbs the runs"),
    ],
)
def test_without_an_effect_it_says_what_is_ruled_out(
    half: float, repeats: float, words: str
) -> None:
    written = headline(row(0.0, half=half, repeats_needed=repeats))
    assert not written.effect
    assert written.enough == (half < 0.01)
    assert words in written.text


def test_an_interval_beyond_the_target_may_still_rule_the_target_out() -> None:
    written = headline(row(0.012, half=0.013, detectable=0.018))
    assert written.enough
    assert "no difference, 1.8 % or more would have shown" in written.text


def test_a_faster_placement_gains() -> None:
    text = headline(row(0.07)).text
    assert text.startswith(
        "Crossing the socket (distance 32) gains the transfer-bound models 7.0 %"
    )


def test_without_gpus_memory_is_on_another_node() -> None:
    text = headline(row(-0.07, gpus=0, units=2, models=("copy-a",))).text
    assert text.startswith("Memory on another node (distance 32) costs copy-a 7.0 %")
    assert "2 nodes x 5 repeats" in text


def test_no_rows_no_headline() -> None:
    assert write_headline(pd.DataFrame(), TARGET) is None


def test_a_lean_of_all_comparisons_and_noise_of_a_placement_are_named() -> None:
    noisy = pd.DataFrame([row(0.0, noise_ratio=3.0), row(0.0, **SAME_SOCKET)])
    assert describe_pattern(noisy, [-0.001] * 14) == [
        "all 14 single comparisons lean the same way: slower than local",
        "runs with placement remote are 3.0 times as noisy as local ones",
    ]
    assert describe_pattern(noisy.iloc[1:], [-0.001, 0.001] * 7) == []
