"""What the numbers say, in words: for each comparison, and for each group of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.stats.contrasts import repeats_for
from numa_bench.analysis.stats.permutation import ALPHA, LEAST_RUNS
from numa_bench.analysis.stats.tables import TARGET
from numa_bench.records import JsonDict

#: A row of a table, by column.
Row = Mapping[Any, Any]

EFFECT, NO_DIFFERENCE, NOT_ENOUGH, NO_VERDICT = (
    "effect",
    "no_difference",
    "not_enough",
    "no_verdict",
)
#: Advice where the noise is not known yet.
FIRST_REPEATS = 5


@dataclass(frozen=True)
class Verdict:
    """What can be said of one comparison with local.

    `kind` is one of the four above. `change`, `low` and `high` are cell over local, minus 1;
    `detectable` is a fraction; `repeats_needed` runs per cell for the effect of interest.
    """

    kind: str
    text: str
    device_text: str
    model_text: str
    placement: str
    placement_text: str
    group: str
    setting: str
    cell: str
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    n: int = 0
    n_base: int = 0
    repeats_needed: int | None = None

    def to_dict(self) -> JsonDict:
        return asdict(self)


@dataclass(frozen=True)
class StudyVerdict:
    """The answer for one group: a sentence, and what it rests on. `kind` as in `Verdict`."""

    group: str
    kind: str
    text: str
    details: tuple[str, ...]
    claims: int
    comparisons: int

    def to_dict(self) -> JsonDict:
        return asdict(self)


def judge_cells(
    effects: pd.DataFrame, frame: pd.DataFrame, target: float = TARGET
) -> list[Verdict]:
    """One verdict per row of `stats.effect_table`, and one "no verdict" for each setting that has
    none. `target` is the effect of interest, as a fraction."""
    several = effects.groupby(["setting", "placement"])["cell"].transform("nunique") > 1
    found = [
        _judge(row, bool(many), target)
        for row, many in zip(effects.to_dict("records"), several, strict=True)
    ]
    judged = set(effects["setting"])
    for _, cells in frame.groupby("setting", sort=False) if not frame.empty else ():
        if cells["setting"].iloc[0] not in judged:
            found.append(_unjudged(cells))
    return found


def _judge(row: Row, several: bool, target: float) -> Verdict:
    name = f"{row['placement']} ({row['placement_text']})" if several else str(row["placement"])
    needed = _needed(row, target)
    if math.isnan(row["p_holm"]):
        kind, text = NO_VERDICT, _too_few(row, name)
        needed = FIRST_REPEATS
    elif row["claimed"]:
        kind, text = EFFECT, f"{name} is {change_text(row)}"
    elif row["detectable"] <= target:
        kind, text = NO_DIFFERENCE, _no_difference(row, name)
    else:
        kind, text = NOT_ENOUGH, f"{name}: {_more_runs(needed, target)}{_weak(row)}"
    if row["note"]:
        text += f"; {row['note']}"
    return Verdict(
        kind=kind,
        text=text,
        change=_number(row["ratio"] - 1),
        low=_number(row["low"] - 1),
        high=_number(row["high"] - 1),
        p_holm=_number(row["p_holm"]),
        detectable=_number(row["detectable"]),
        n=int(row["n"]),
        n_base=int(row["n_base"]),
        repeats_needed=needed,
        **_names(row),
    )


def change_text(row: Row) -> str:
    """ "7.2 % slower (95 % CI 6.1 to 8.3, n = 5 x 5)"; `row` has ratio, low, high, n, n_base.

    Of a metric of which more is worse, such as latency, "slower" is "longer".
    """
    up = row["ratio"] > 1
    low, high = (row["low"] - 1, row["high"] - 1) if up else (1 - row["high"], 1 - row["low"])
    time = "latency" in str(row.get("metric", ""))
    word = ("longer" if up else "shorter") if time else ("faster" if up else "slower")
    size = abs(row["ratio"] - 1)
    interval = f"95 % CI {_percent(low)} to {_percent(high)}"
    return f"{_percent(size)} % {word} ({interval}, n = {row['n']} x {row['n_base']})"


def _no_difference(row: Row, name: str) -> str:
    seen = f"one of {_percent(row['detectable'])} % or more would have shown"
    return f"{name}: no difference; {seen}{_weak(row)}"


def _weak(row: Row) -> str:
    """What was seen and does not stand."""
    if row["low"] <= 1 <= row["high"] and row["p_value"] >= ALPHA:
        return ""
    many = row["family_size"] > 1
    why = f"does not stand among {row['family_size']} comparisons" if many else "may be chance"
    return f"; {change_text(row)} was seen, and {why}"


def _more_runs(needed: int | None, target: float) -> str:
    if needed is None:
        return (
            f"too noisy: no number of repeats up to 1000 would show {_percent(target)} %; see what "
            "disturbs the runs"
        )
    return f"not enough runs: repeat with experiment.repeats={needed} for {_percent(target)} %"


def _too_few(row: Row, name: str) -> str:
    n, n_base = int(row["n"]), int(row["n_base"])
    if min(n, n_base) == 0:
        side = "local" if n_base == 0 else name
        return f"{name}: no verdict, no run of {side} is in the statistics; see the excluded runs"
    runs = "one run" if min(n, n_base) == 1 else f"{min(n, n_base)} runs"
    return f"{name}: no verdict from {runs}; repeat with experiment.repeats={FIRST_REPEATS} or more"


def _unjudged(cells: pd.DataFrame) -> Verdict:
    """A setting without any comparison."""
    labels = sorted(set(cells["placement"]))
    if "local" not in labels:
        why = f"no local placement was measured to compare with (only {', '.join(labels)})"
    else:
        why = "only one placement was measured, so there is nothing to compare"
    row = cells.iloc[0].to_dict()
    return Verdict(kind=NO_VERDICT, text=f"no verdict: {why}", **_names(row))


def _needed(row: Row, target: float) -> int | None:
    if math.isnan(row["noise"]):
        return None
    found = repeats_for(
        target,
        np.array([row["noise"]]),
        float(row["prior_freedom"]),
        np.array([int(row["setting_cells"])]),
        int(row["family_size"]),
    )[0]
    if math.isnan(found):
        return None
    few = not row["detectable"] <= target  # then more are needed than there are
    return max(int(found), int(min(row["n"], row["n_base"])) + 1) if few else int(found)


def _names(row: Row) -> dict[str, Any]:
    names = ("device_text", "model_text", "placement", "placement_text", "group", "setting", "cell")
    return {name: str(row[name]) for name in names}


def judge_studies(found: list[Verdict], frame: pd.DataFrame) -> list[StudyVerdict]:
    """One answer per group, in the order of the runs."""
    order = list(dict.fromkeys(frame["group"])) if not frame.empty else []
    return [_study(str(group), [v for v in found if v.group == group]) for group in order]


def _study(group: str, found: list[Verdict]) -> StudyVerdict:
    by_kind = {k: [v for v in found if v.kind == k] for k in (EFFECT, NO_DIFFERENCE, NOT_ENOUGH)}
    judged = sum(map(len, by_kind.values()))
    claims, short = by_kind[EFFECT], by_kind[NOT_ENOUGH]
    if claims:
        kind, text = EFFECT, _claims_text(claims, judged)
    elif judged and not short:
        kind, text = NO_DIFFERENCE, _nothing_text(by_kind[NO_DIFFERENCE])
    elif judged:
        kind, text = NOT_ENOUGH, _short_text(short, judged)
    else:
        reason = found[0].text.partition("no verdict")[2].lstrip(",: ") if found else "no runs"
        kind, text = NO_VERDICT, f"No verdict: {reason}."
    details = [*_by_placement(found), *_kinds_text(by_kind, len(found) - judged)]
    return StudyVerdict(group, kind, text, tuple(details), len(claims), judged)


def _claims_text(claims: list[Verdict], judged: int) -> str:
    largest = max(claims, key=lambda v: abs(v.change or 0.0))
    count = f"{len(claims)} of {judged} comparisons with local differ" if judged > 1 else "yes"
    where = f"{largest.model_text} on {largest.device_text}"
    return f"Placement matters here: {count}; the largest: {where}, {largest.text}."


def _nothing_text(none: list[Verdict]) -> str:
    least = max(v.detectable or 0.0 for v in none)
    seen = f"one of {_percent(least)} % or more would have shown"
    return f"No difference in {_counted(len(none))} with local; {seen}."


def _short_text(short: list[Verdict], judged: int) -> str:
    needed = [v.repeats_needed for v in short]
    known = [n for n in needed if n is not None]
    advice = f"repeat with experiment.repeats={max(known)}" if known else "find what disturbs them"
    return (
        f"No difference found, but {len(short)} of {_counted(judged)} with local had not enough "
        f"runs to rule out the effect of interest: {advice}."
    )


def _by_placement(found: list[Verdict]) -> list[str]:
    lines = []
    for label in dict.fromkeys(v.placement for v in found if v.p_holm is not None):
        members = [v for v in found if v.placement == label and v.p_holm is not None]
        changes = [v.change or 0.0 for v in members if v.kind == EFFECT]
        parts = []
        for word, sizes in (
            ("slower", [-c for c in changes if c < 0]),
            ("faster", [c for c in changes if c > 0]),
        ):
            if sizes:
                low, high = _percent(min(sizes)), _percent(max(sizes))
                by = f"{low} %" if low == high else f"{low} to {high} %"
                parts.append(f"{word} in {len(sizes)} of {len(members)} by {by}")
        lines.append(f"{label}: {', '.join(parts) or f'no claim in {len(members)}'}")
    return lines


def _kinds_text(by_kind: dict[str, list[Verdict]], unjudged: int) -> list[str]:
    lines = []
    short = [v.repeats_needed for v in by_kind[NOT_ENOUGH] if v.repeats_needed is not None]
    if by_kind[EFFECT] and short:
        count = len(by_kind[NOT_ENOUGH])
        need = f"{_counted(count)} {'needs' if count == 1 else 'need'} more runs"
        lines.append(f"{need} (experiment.repeats={max(short)})")
    if unjudged and any(by_kind.values()):
        lines.append(f"{_counted(unjudged)} without a verdict, see the table")
    return lines


def _counted(number: int) -> str:
    return f"{number} comparison{'' if number == 1 else 's'}"


def _percent(fraction: float) -> str:
    """A fraction in per cent, one digit behind the point; whole ones without."""
    text = f"{100 * fraction:.1f}"
    return text.removesuffix(".0") if fraction in (TARGET, round(fraction, 2)) else text


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


__all__ = ["LEAST_RUNS", "StudyVerdict", "Verdict", "change_text", "judge_cells", "judge_studies"]
