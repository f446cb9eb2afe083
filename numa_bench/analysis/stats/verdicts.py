"""Verdicts in words: one for each comparison, and one for each group of a study."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from numa_bench.analysis.stats.extensions import describe_extensions
from numa_bench.analysis.stats.pooled.headline import write_headline
from numa_bench.analysis.stats.pooled.pattern import describe_pattern
from numa_bench.analysis.stats.sentences import (
    FIRST_REPEATS,
    Row,
    advise_repeats,
    describe_change,
    describe_equal,
    describe_insignificant,
    describe_no_difference,
    describe_too_few,
)
from numa_bench.analysis.stats.tables import TARGET, find_host_bound
from numa_bench.labels import describe_placement, find_base_label, list_first
from numa_bench.records import JsonDict

EFFECT, NO_DIFFERENCE, NOT_ENOUGH, NO_VERDICT = (
    "effect",
    "no_difference",
    "not_enough",
    "no_verdict",
)


#: Corrected p below which single comparisons count although no pooled effect is found. Chosen.
SURE = 0.01


@dataclass(frozen=True)
class Verdict:
    """The verdict on one comparison with local.

    `kind` is one of the four above. `change`, `low` and `high` are cell over local, minus 1;
    `detectable` is a fraction; `repeats_needed` is the number of runs per cell that the effect of
    interest needs.
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
    """The verdict on one group: a sentence, and details that support it. `kind` as in `Verdict`.

    `claims` of the `comparisons` with a verdict differ from local.
    """

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
    """Judge each row of `stats.effect_table`; a setting without any row gets one "no verdict".

    `target` is the effect of interest, as a fraction.
    """
    # Where a label has several cells, it does not say which one is meant.
    several = effects.groupby(["setting", "placement"])["cell"].transform("nunique") > 1
    verdicts = [
        _judge(row, bool(many), target)
        for row, many in zip(effects.to_dict("records"), several, strict=True)
    ]
    judged = set(effects["setting"])
    for _, cells in frame.groupby("setting", sort=False) if not frame.empty else ():
        if cells["setting"].iloc[0] not in judged:
            verdicts.append(_unjudged(cells))
    return verdicts


def _judge(row: Row, several: bool, target: float) -> Verdict:
    name = _name(row, several)
    needed = _needed(row, target)
    if math.isnan(row["p_holm"]):
        kind, text = NO_VERDICT, describe_too_few(row, name)
        needed = FIRST_REPEATS
    elif row["held_back"]:
        kind, text = NO_VERDICT, f"{name}: no verdict, {row['held_back']}"
    elif row["claimed"]:
        kind, text = EFFECT, f"{name} is {describe_change(row)}"
    elif row["low"] > 1 - target and row["high"] < 1 / (1 - target):
        kind, text = NO_DIFFERENCE, describe_equal(row, name, target)
    elif row["detectable"] <= target:
        # Only where the effect of interest would have been found is silence an answer.
        kind, text = NO_DIFFERENCE, describe_no_difference(row, name)
    else:
        advice = advise_repeats(needed, target)
        kind, text = NOT_ENOUGH, f"{name}: {advice}{describe_insignificant(row)}"
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


def _name(row: Row, several: bool) -> str:
    """A placement's label, in brackets what it means where the label needs that, and its nodes."""
    label = str(row["placement"])
    more = [describe_placement(label), str(row["placement_text"]) if several else ""]
    words = "; ".join(filter(None, more))
    return f"{label} ({words})" if words else label


def _unjudged(cells: pd.DataFrame) -> Verdict:
    """A setting without any comparison."""
    labels = sorted(set(cells["placement"]))
    if find_base_label(labels) is None:
        why = f"no local placement was measured (only {', '.join(labels)})"
    else:
        why = "only one placement was measured"
    row = cells.iloc[0].to_dict()
    return Verdict(kind=NO_VERDICT, text=f"no verdict: {why}", **_names(row))


def _needed(row: Row, target: float) -> int | None:
    if math.isnan(row["repeats_needed"]):
        return None
    repeats = int(row["repeats_needed"])
    if row["detectable"] <= target:
        return repeats
    # More runs are needed than there are, even where cells lost some of theirs.
    return max(repeats, int(min(row["n"], row["n_base"])) + 1)


def _names(row: Row) -> dict[str, Any]:
    names = ("device_text", "model_text", "placement", "placement_text", "group", "setting", "cell")
    return {name: str(row[name]) for name in names}


def judge_studies(
    verdicts: list[Verdict],
    frame: pd.DataFrame,
    pooled: pd.DataFrame,
    target: float = TARGET,
) -> list[StudyVerdict]:
    """One verdict per group, in the order of the runs; `pooled` as of `stats.pooled.table`."""
    groups = list(dict.fromkeys(frame["group"])) if not frame.empty else []
    return [
        _judge_group(
            str(g),
            [v for v in verdicts if v.group == g],
            pooled[pooled["group"] == g],
            _list_notes(frame[frame["group"] == g]),
            target,
        )
        for g in groups
    ]


def _list_notes(frame: pd.DataFrame) -> list[str]:
    """What weakens the verdict on these runs."""
    return [*_host_text(frame), *describe_extensions(frame)]


def _host_text(frame: pd.DataFrame) -> list[str]:
    """A line on cells that show the host rather than the link."""
    bound = find_host_bound(frame)
    if not bound.any():
        return []
    which = "all cells are" if bound.all() else f"{int(bound.sum())} of {len(bound)} cells are"
    return [
        f"{which} host bound (mark B): the GPU waited for the host, so their throughput says "
        "little about the link"
    ]


def _judge_group(
    group: str,
    verdicts: list[Verdict],
    pooled: pd.DataFrame,
    notes: list[str],
    target: float,
) -> StudyVerdict:
    by_kind = {k: [v for v in verdicts if v.kind == k] for k in (EFFECT, NO_DIFFERENCE, NOT_ENOUGH)}
    judged = sum(map(len, by_kind.values()))
    headline = write_headline(pooled, target)
    # Rare enough not to add to the claims that chance makes of the pooled effects.
    sure = [v for v in by_kind[EFFECT] if v.p_holm is not None and v.p_holm < SURE]
    if headline is None:
        reason = verdicts[0].text.partition("no verdict")[2].lstrip(",: ") if verdicts else ""
        kind, text = NO_VERDICT, f"No verdict: {reason or 'no runs'}."
    elif headline.effect:
        kind, text = EFFECT, headline.text
    elif sure:
        kind, text = EFFECT, f"{_describe_single(sure, judged)} {headline.text}"
    elif headline.held_back:
        kind, text = NO_VERDICT, f"No verdict: {headline.text}"
    else:
        kind, text = (NO_DIFFERENCE if headline.enough else NOT_ENOUGH), headline.text
    details = [
        *describe_pattern(pooled, [v.change for v in verdicts if v.p_holm is not None]),
        *_kinds_text(by_kind, len(verdicts) - judged),
        *notes,
    ]
    return StudyVerdict(group, kind, text, tuple(details), len(by_kind[EFFECT]), judged)


def _describe_single(claims: list[Verdict], judged: int) -> str:
    """Single comparisons that differ where nothing does that is pooled: one model on one GPU."""
    texts = [f"{v.model_text} on {v.device_text}, {v.text}" for v in claims]
    named = list_first(texts, 2, "; ")
    return f"{len(claims)} of {_counted(judged)} with local: {named}. Over all GPUs:"


def _kinds_text(by_kind: dict[str, list[Verdict]], unjudged: int) -> list[str]:
    """Single comparisons by their outcome, in one line, and those without a verdict in another."""
    judged = sum(map(len, by_kind.values()))
    lines = []
    if judged:
        counts = [f"{len(by_kind[EFFECT])} of {judged} differ"]
        if short := len(by_kind[NOT_ENOUGH]):
            need = "needs" if short == 1 else "need"
            counts.append(
                f"{short} {need} more runs for a verdict of {'its' if short == 1 else 'their'} own"
            )
        lines.append(f"single comparisons with local: {', '.join(counts)}")
    if unjudged and judged:
        lines.append(f"{_counted(unjudged)} without a verdict, see the table")
    return lines


def _counted(number: int) -> str:
    return f"{number} comparison{'' if number == 1 else 's'}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
