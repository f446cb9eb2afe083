"""Hosts side by side: the same pooled effect on each of them, and whether hosts differ in it. Pure.

Nothing is pooled across hosts. An effect is compared where hosts measured the same models with the
same metric in placements of the same name; its homogeneity is tested with Cochran's Q (Cochran
1954), Holm-corrected over all compared effects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import chi2, norm

from numa_bench.analysis.stats.contrasts import LEVEL
from numa_bench.analysis.stats.permutation import ALPHA, correct_holm
from numa_bench.analysis.stats.pooled.table import BOUND, MODEL
from numa_bench.analysis.stats.pooled.words import (
    describe_range,
    describe_sample,
    describe_silence,
    list_names,
    name_models,
    name_subject,
)
from numa_bench.analysis.stats.sentences import Row, format_percent
from numa_bench.labels import list_first

HOST_COLUMNS = (
    "metric", "model_text", "bound", "placement", "distance_text", "group", "name", "sample",
    "ratio", "low", "high", "claimed", "equal", "detectable", "outcome", "p_hosts", "differs",
)  # fmt: skip
#: What may explain a difference between hosts, the likeliest first, with its words.
_CAUSES = {
    "numa_mode": "NUMA mode",
    "gpus": "GPUs",
    "gpu_name": "GPU",
    "cpu_model": "CPU",
    "nvidia_driver": "driver",
    "kernel": "kernel",
    "settings.numa_balancing": "NUMA balancing",
    "settings.transparent_hugepages": "huge pages",
    "packages.torch": "torch",
    "cuda_driver": "CUDA",
}
#: What hosts always differ in, or what follows from the rest.
_NO_CAUSE = ("host", "environment", "gpu_uuids", "env_git_commit", "git_commit", "memory_bytes")
#: Most hosts that a sentence lists one by one, and most causes.
_MOST_HOSTS, _MOST_CAUSES = 4, 4
#: Largest share of hosts that a cause may not explain. Chosen: the rate of false claims.
_EXCEPTIONS = 0.05
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class HostComparison:
    """`table`: one row per compared effect and host, columns `HOST_COLUMNS`; `texts` about them.

    Both are empty where no two groups of runs measured the same.
    """

    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(HOST_COLUMNS)))
    texts: tuple[str, ...] = ()


def compare_hosts(
    pooled: pd.DataFrame, groups: pd.DataFrame, differences: pd.DataFrame, target: float
) -> HostComparison:
    """Compare groups of runs, one or more for each host.

    `pooled` is from `pooled.table`, `groups` and `differences` are the tables of `read.groups`;
    `target` is the effect of interest, a fraction.
    """
    if pooled.empty or len(groups) < 2:
        return HostComparison()
    names = name_groups(groups, differences)
    effects = _match_effects(pooled)
    if not effects:
        return HostComparison()
    p_values = np.array([_test_homogeneity(rows) for rows in effects])
    differs = correct_holm(p_values) < ALPHA
    rows: list[dict[str, object]] = []
    texts: list[str] = []
    for effect, p, differing in zip(effects, p_values, differs, strict=True):
        described = [
            {
                **row,
                "name": names[str(row["group"])],
                "sample": describe_sample(row),
                "outcome": _describe_outcome(row, target),
                "p_hosts": p,
                "differs": bool(differing),
            }
            for row in effect
        ]
        rows += described
        texts.append(_describe_effect(described, differences, target))
    return HostComparison(pd.DataFrame(rows).reindex(columns=list(HOST_COLUMNS)), tuple(texts))


def name_groups(groups: pd.DataFrame, differences: pd.DataFrame) -> dict[str, str]:
    """A name for each group: its host, and what tells it from other groups of that host."""
    values = {str(row["key"]): row for row in differences.to_dict("records")}
    keys = [key for key in (*_CAUSES, *values) if key in values and key not in _NO_CAUSE]
    names: dict[str, str] = {}
    for host, members in groups.groupby("host", sort=False):
        ids = [str(group) for group in members["group"]]
        telling = next(
            (key for key in keys if len({str(values[key].get(i, "")) for i in ids}) == len(ids)), ""
        )
        for group in ids:
            text = str(values[telling].get(group, "")) if telling else group
            word = f"{_CAUSES.get(telling, telling)} {text or _UNKNOWN}".strip()
            names[group] = str(host) if len(ids) == 1 else f"{host} ({word})"
    return names


def _match_effects(pooled: pd.DataFrame) -> list[list[Row]]:
    """The rows of each effect that at least two groups have: of models together, else of each."""
    by_key: dict[tuple[str, tuple[str, ...], str], list[Row]] = {}
    chosen = pooled[pooled["level"].isin([BOUND, MODEL])]
    for row in chosen.to_dict("records"):
        key = (str(row["metric"]), tuple(row["models"]), str(row["placement"]))
        by_key.setdefault(key, []).append(row)
    matched = {key: rows for key, rows in by_key.items() if len(rows) > 1}
    together = [key for key, rows in matched.items() if any(r["level"] == BOUND for r in rows)]
    covered = {
        (metric, model, place) for metric, models, place in together if len(models) > 1
        for model in models
    }  # fmt: skip
    return [
        rows
        for (metric, models, place), rows in matched.items()
        if len(models) > 1 or (metric, models[0], place) not in covered
    ]


def _test_homogeneity(rows: Sequence[Row]) -> float:
    """The p-value of "all hosts have the same effect", by Cochran's Q on logarithms.

    Errors are taken from the 95 % intervals as if those were normal, which makes them too large
    rather than too small where the intervals are of a t distribution.
    """
    effect = np.log([float(row["ratio"]) for row in rows])
    width = np.log([float(row["high"]) / float(row["low"]) for row in rows])
    error = np.maximum(width / (2 * norm.ppf((1 + LEVEL) / 2)), 1e-12)
    weight = 1 / error**2
    centre = (weight * effect).sum() / weight.sum()
    return float(chi2.sf((weight * (effect - centre) ** 2).sum(), len(rows) - 1))


def _describe_outcome(row: Row, target: float) -> str:
    """ "7.0 %", "none" or that too little was measured to know."""
    if row["claimed"]:
        sign = "" if row["ratio"] < 1 else "+"
        return f"{sign}{format_percent(abs(row['ratio'] - 1))} %"
    return "none" if row["equal"] or row["detectable"] <= target else "not shown"


def _describe_effect(
    rows: Sequence[Mapping[str, object]], differences: pd.DataFrame, target: float
) -> str:
    """ "Crossing the socket costs the transfer-bound models 7.0 % on gpu-a, none on gpu-b: ..."."""
    first = next((row for row in rows if row["claimed"]), rows[0])
    bounds = {str(row["bound"]) for row in rows}
    bound = bounds.pop() if len(bounds) == 1 else ""
    models = str(first["model_text"]).split(", ")
    subject = name_subject(str(first["placement"]), str(first["distance_text"]), not first["gpus"])
    whose = name_models(bound, models)
    if not any(row["claimed"] for row in rows):
        silence = describe_silence(rows, target)
        return f"{subject.rstrip(',')}, {whose}: {silence} on {_name_hosts(rows)}."
    verb = "costs" if float(str(first["ratio"])) < 1 else "gains"
    text = f"{subject} {verb} {whose} {_list_outcomes(rows, str(first['name']))}"
    if not first["differs"]:
        return f"{text}; that hosts differ is not shown."
    causes = _describe_causes(rows, differences)
    return f"{text}: what differs is {causes}." if causes else f"{text}: nothing known differs."


def _list_outcomes(rows: Sequence[Row], first: str) -> str:
    """The effect on each host; of many hosts by outcome, with the range of sizes."""
    if len(rows) <= _MOST_HOSTS:
        ordered = sorted(rows, key=lambda row: row["name"] != first)
        return ", ".join(f"{_lower_outcome(row)} on {row['name']}" for row in ordered)
    parts = []
    for outcome in ("claimed", "none", "not shown"):
        of = [r for r in rows if (r["outcome"] if not r["claimed"] else "claimed") == outcome]
        if of:
            size = describe_range(of) if outcome == "claimed" else outcome
            parts.append(f"{size} on {len(of)} hosts ({_name_hosts(of)})")
    return ", ".join(parts)


def _lower_outcome(row: Row) -> str:
    low, high = sorted(abs(1 - float(row[end])) for end in ("low", "high"))
    if not row["claimed"]:
        return str(row["outcome"])
    return f"{row['outcome']} ({format_percent(low)} to {format_percent(high)})"


def _name_hosts(rows: Sequence[Row]) -> str:
    return list_names([str(row["name"]) for row in rows], _MOST_HOSTS)


def _describe_causes(rows: Sequence[Row], differences: pd.DataFrame) -> str:
    """The properties in which hosts with the effect differ from hosts without; "" without any.

    Where all have an effect, of whatever size, they are those in which no two are alike.
    """
    found: list[str] = []
    table = {str(row["key"]): row for row in differences.to_dict("records")}
    for key in (*_CAUSES, *(k for k in table if k not in _CAUSES)):
        if key not in table or key in _NO_CAUSE:
            continue
        values = [(str(table[key].get(r["group"]) or _UNKNOWN), bool(r["claimed"])) for r in rows]
        exceptions = _count_exceptions(values)
        if exceptions is not None:
            share = {v: np.mean([c for w, c in values if w == v]) for v, _ in values}
            texts = sorted(share, key=lambda v: -share[v])
            against = " against ".join(list_names([text], 1) for text in texts)
            rare = f" (with {exceptions} exceptions)" if exceptions else ""
            found.append(f"{_CAUSES.get(key, key)} {against}{rare}")
    return list_first(found, _MOST_CAUSES)


def _count_exceptions(values: Sequence[tuple[str, bool]]) -> int | None:
    """How many hosts are not on the side of most hosts with their value: with the effect, or
    without; None where the values do not separate the sides.

    Of many hosts some show an effect, or miss it, by chance.
    """
    claims: dict[str, list[bool]] = {}
    for value, claimed in values:
        claims.setdefault(value, []).append(claimed)
    if len({claimed for _, claimed in values}) == 1:
        return 0 if len(claims) == len(values) else None
    sides = {2 * sum(of) > len(of) for of in claims.values()}
    exceptions = sum(min(sum(of), len(of) - sum(of)) for of in claims.values())
    separated = len(sides) == 2 and exceptions <= _EXCEPTIONS * len(values)
    return exceptions if separated else None
