"""Hosts side by side: what is compared, when hosts differ, and what is named as the cause."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.stats.pooled.hosts import HostComparison, compare_hosts

TARGET = 0.02
COPIES = ("copy-a", "copy-b")


def row(group: str, change: float, half: float = 0.004, **keys: Any) -> dict[str, Any]:
    """A pooled effect of one group of runs; claimed where its interval excludes 0."""
    low, high = 1 + change - half, 1 + change + half
    models = keys.get("models", COPIES)
    return {
        "group": group, "metric": "throughput_samples_per_s", "level": "bound", "models": models,
        "model_text": ", ".join(models), "bound": "transfer", "placement": "remote",
        "distance_text": "other socket (distance 32)", "units": 8, "gpus": 8, "repeats": 5,
        "ratio": 1 + change, "low": low, "high": high, "claimed": not low <= 1 <= high,
        "equal": low > 1 - TARGET and high < 1 + TARGET, "detectable": 2 * half, **keys,
    }  # fmt: skip


def compare(
    *rows: dict[str, Any], hosts: dict[str, str] | None = None, **differences: tuple[str, ...]
) -> HostComparison:
    """Compare groups a, b, ... on hosts gpu-a, gpu-b, ...; `differences` gives a value for each."""
    names = list(dict.fromkeys(str(r["group"]) for r in rows))
    hosts = hosts or {name: f"gpu-{name}" for name in names}
    groups = pd.DataFrame([{"group": n, "host": hosts[n]} for n in names])
    table = [
        {"key": key.replace("__", "."), **dict(zip(names, values, strict=True))}
        for key, values in {"host": tuple(hosts.values()), **differences}.items()
    ]
    return compare_hosts(pd.DataFrame(rows), groups, pd.DataFrame(table), TARGET)


def test_an_effect_on_one_host_and_what_differs() -> None:
    found = compare(
        row("a", -0.07),
        row("b", 0.001),
        numa_mode=("NPS1", "NPS4"),
        nvidia_driver=("550", "560"),
        environment=("1f", "2e"),
    )
    assert found.texts == (
        "Crossing the socket (distance 32) costs the transfer-bound models 7.0 % (6.6 to 7.4) on "
        "gpu-a, none on gpu-b: what differs is NUMA mode NPS1 against NPS4, "
        "driver 550 against 560.",
    )
    assert found.table["outcome"].tolist() == ["7.0 %", "none"]
    assert found.table["differs"].tolist() == [True, True]
    assert (found.table["p_hosts"] < 0.001).all()


def test_the_host_with_the_effect_is_named_first() -> None:
    (text,) = compare(row("a", 0.0), row("b", -0.07), nvidia_driver=("550", "560")).texts
    assert "7.0 % (6.6 to 7.4) on gpu-b, none on gpu-a" in text
    assert text.endswith("driver 560 against 550.")


def test_hosts_that_agree_are_not_said_to_differ() -> None:
    (text,) = compare(row("a", -0.07), row("b", -0.071), nvidia_driver=("550", "560")).texts
    assert text.endswith("7.1 % (6.7 to 7.5) on gpu-b; that hosts differ is not shown.")
    assert "driver" not in text


def test_claimed_on_one_and_missed_on_the_other_is_no_difference_between_them() -> None:
    """The difference between significant and not significant is not itself significant."""
    found = compare(row("a", -0.03, 0.02), row("b", -0.01, 0.03))
    assert found.table["outcome"].tolist() == ["3.0 %", "not shown"]
    assert found.texts[0].endswith("not shown on gpu-b; that hosts differ is not shown.")


def test_a_difference_without_a_known_cause_says_so() -> None:
    (text,) = compare(row("a", -0.07), row("b", 0.0)).texts
    assert text.endswith("none on gpu-b: nothing known differs.")


def test_no_effect_anywhere() -> None:
    (text,) = compare(row("a", 0.001), row("b", -0.001)).texts
    assert text == (
        "Crossing the socket (distance 32), the transfer-bound models: equal within 2 % on "
        "gpu-a, gpu-b."
    )


@pytest.mark.parametrize(
    "other",
    [{"metric": "h2d_gb_per_s"}, {"models": ("copy-a", "copy-c")}, {"placement": "same_socket"}],
)
def test_what_is_not_comparable_is_not_compared(other: dict[str, Any]) -> None:
    assert compare(row("a", -0.07), row("b", 0.0, **other)).table.empty
    assert compare(row("a", -0.07)).table.empty
    empty = pd.DataFrame()
    assert compare_hosts(empty, empty, empty, TARGET).texts == ()


def test_models_are_compared_by_themselves_where_their_groups_differ() -> None:
    """On host b another model is bound by the link too."""

    def single(group: str, change: float) -> dict[str, Any]:
        return row(group, change, level="model", models=("copy-a",))

    found = compare(
        row("a", -0.07), single("a", -0.07),
        row("b", 0.0, models=(*COPIES, "copy-c")), single("b", 0.0),
    )  # fmt: skip
    assert found.table["model_text"].tolist() == ["copy-a", "copy-a"]
    together = compare(row("a", -0.07), single("a", -0.07), row("b", 0.0), single("b", 0.0))
    assert together.table["model_text"].tolist() == ["copy-a, copy-b"] * 2


def test_two_groups_of_one_host_are_named_by_what_they_differ_in() -> None:
    found = compare(
        row("a", -0.07), row("b", 0.0), hosts={"a": "gpu-1", "b": "gpu-1"},
        nvidia_driver=("550", "560"),
    )  # fmt: skip
    assert found.table["name"].tolist() == ["gpu-1 (driver 550)", "gpu-1 (driver 560)"]


def test_of_many_hosts_only_what_separates_the_effect_is_named() -> None:
    hit = {"a", "c", "e"}
    found = compare(
        *(row(g, -0.07 if g in hit else 0.0) for g in "abcdef"),
        numa_mode=tuple("NPS1" if g in hit else "NPS4" for g in "abcdef"),
        kernel=("6.1", "6.1", "6.8", "6.8", "6.8", "6.1"),
    )
    assert found.texts == (
        "Crossing the socket (distance 32) costs the transfer-bound models 7.0 % on 3 hosts "
        "(gpu-a, gpu-c, gpu-e), none on 3 hosts (gpu-b, gpu-d, gpu-f): what differs is "
        "NUMA mode NPS1 against NPS4.",
    )


@pytest.mark.parametrize(
    ("odd", "ending"),
    [
        (2, "what differs is NUMA mode NPS1 against NPS4 (with 2 exceptions)."),
        (6, "nothing known differs."),
    ],
)
def test_of_many_hosts_some_may_differ_by_chance(odd: int, ending: str) -> None:
    groups = [f"h{i}" for i in range(60)]
    found = compare(
        # Of 40 hosts with NPS4 `odd` show the effect too.
        *(row(g, -0.07 if i < 20 + odd else 0.0) for i, g in enumerate(groups)),
        numa_mode=tuple("NPS1" if i < 20 else "NPS4" for i in range(60)),
    )
    assert found.texts[0].endswith(ending)
