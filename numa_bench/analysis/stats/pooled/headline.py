"""The verdict on a group of runs in a few sentences, from its pooled effects. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from numa_bench.analysis.stats.pooled.table import BOUND, MODEL, UNIT
from numa_bench.analysis.stats.pooled.words import (
    ASIDES,
    count_models,
    count_things,
    describe_change,
    describe_range,
    describe_sample,
    describe_silence,
    describe_size,
    list_names,
    name_models,
    name_subject,
)
from numa_bench.analysis.stats.sentences import Row, format_percent
from numa_bench.labels import split_hops

#: The order in which placements are named: the farthest first, parts of it after it.
_PLACES = ("remote", "unbound", "local/remote", "remote/local", "same_socket")
#: The same for what limits models: what placement touches most first.
_LIMITS = ("transfer", "host work", "host", "", "compute")


@dataclass(frozen=True)
class Headline:
    """What pooled effects say in sentences.

    `effect`: there is one. `enough`: the effect of interest is ruled out where there is none;
    otherwise `repeats` are needed, None where no number is enough. `held_back`: an effect is not
    claimed because of a disturbance.
    """

    text: str
    effect: bool
    enough: bool
    repeats: int | None
    held_back: bool = False


@dataclass(frozen=True)
class _Part:
    """One group of models: its rows by placement, those of its models and of single units."""

    bound: str
    models: tuple[str, ...]
    rows: list[Row]
    by_model: list[Row]
    by_unit: list[Row]

    def select(self, level: str, placement: str) -> list[Row]:
        """The rows of models or units in one placement."""
        rows = self.by_model if level == MODEL else self.by_unit
        return [row for row in rows if row["placement"] == placement]


def write_headline(pooled: pd.DataFrame, target: float) -> Headline | None:
    """The sentences on one group's rows of `pooled.table`; None without rows.

    `target` is the effect of interest, a fraction.
    """
    if pooled.empty:
        return None
    rows = sorted(pooled.to_dict("records"), key=lambda row: _rank_place(str(row["placement"])))
    bounds = sorted({str(row["bound"]) for row in rows}, key=_rank_bound)
    parts = [_make_part(bound, [r for r in rows if r["bound"] == bound]) for bound in bounds]
    every = [r for part in parts for r in part.rows if not r["held_back"]]
    held = list(dict.fromkeys(str(r["held_back"]) for r in _list_held(parts)))
    silent = [r for r in every if not r["claimed"] and not r["equal"]]
    short = [r for r in silent if r["detectable"] > target]
    needed = [int(r["repeats_needed"]) for r in short if not math.isnan(r["repeats_needed"])]
    described = [_describe_part(part, target) for part in parts]
    effect = any(found for _, found in described)
    # Without an effect the first of them follows "No verdict:".
    sentences = [f"{t[:1].upper() if effect or i else t[:1]}{t[1:]}." for i, t in enumerate(held)]
    if effect:
        sentences = [*(text for text, _ in described if text), *sentences]
    elif every:
        sentences.append(_describe_nothing(every, short, needed, target))
    text = " ".join(sentences)
    return Headline(text, effect, not short, max(needed, default=None), bool(held))


def _list_held(parts: Sequence[_Part]) -> list[Row]:
    """The pooled effects that are not claimed because of a disturbance."""
    return [row for part in parts for row in part.rows if row["held_back"]]


def _make_part(bound: str, rows: list[Row]) -> _Part:
    by_level = {level: [r for r in rows if r["level"] == level] for level in (BOUND, MODEL, UNIT)}
    models = dict.fromkeys(m for row in by_level[BOUND] for m in row["models"])
    return _Part(bound, tuple(models), by_level[BOUND], by_level[MODEL], by_level[UNIT])


def _rank_place(placement: str) -> tuple[int, int, str]:
    plain, hops = split_hops(placement)
    place = _PLACES.index(plain) if plain in _PLACES else len(_PLACES)
    return place, -hops, placement


def _rank_bound(bound: str) -> int:
    return _LIMITS.index(bound) if bound in _LIMITS else len(_LIMITS)


def _describe_part(part: _Part, target: float) -> tuple[str, bool]:
    """The sentences on one group of models, and whether one of them has an effect."""
    partial = {
        str(row["placement"]): text
        for row in part.rows
        if (text := _describe_some(part, row, target))
    }
    whole = [row for row in part.rows if str(row["placement"]) not in partial]
    claimed = [row for row in whole if row["claimed"]]
    main = claimed[0] if claimed else None
    asides = [
        row for row in whole if main is not None and _is_aside(main, row) and not row["held_back"]
    ]
    sentences = []
    if main is not None:
        sentences.append(_describe_claim(part, main, asides, target))
    rest = [row for row in claimed[1:] if row not in asides]
    sentences += [_describe_claim(part, row, [], target) for row in rest]
    sentences += partial.values()
    silent = [
        row for row in whole if not row["claimed"] and row not in asides and not row["held_back"]
    ]
    if silent:
        sentences.append(_describe_silent(part, silent, bool(sentences), target))
    return " ".join(sentences), bool(claimed or partial)


def _is_aside(main: Row, row: Row) -> bool:
    """Whether a placement is a part of the one that is named first."""
    return main["placement"] == "remote" and row["placement"] in ASIDES


def _subject(row: Row) -> str:
    return name_subject(str(row["placement"]), str(row["distance_text"]), not row["gpus"])


def _verb(row: Row) -> str:
    return "costs" if row["ratio"] < 1 else "gains"


def _describe_claim(part: _Part, main: Row, asides: Sequence[Row], target: float) -> str:
    """ "Crossing the socket costs the transfer-bound models 7.0 % (...): a, b, c; ..."."""
    text = f"{_subject(main)} {_verb(main)} {name_models(part.bound, part.models)} "
    text += describe_size(main, describe_sample(main))
    text += _describe_spread(part, main, target)
    if len(part.models) > 1:
        text += f": {_list_models(part, main)}"
    for row in asides:
        opposite = "the opposite, " if (row["ratio"] < 1) != (main["ratio"] < 1) else ""
        size = f"{opposite}{describe_size(row)}"
        aside = size if row["claimed"] else describe_silence([row], target)
        text += f"; {ASIDES[row['placement']]}: {aside}"
    return f"{text}."


def _describe_spread(part: _Part, main: Row, target: float) -> str:
    """ ", from 5.1 % on GPU 0 to 9.8 % on GPU 3"; "" where units are not far apart."""
    units = part.select(UNIT, main["placement"])
    if len(units) < 2:
        return ""
    worst, best = (pick(units, key=lambda r: float(r["ratio"])) for pick in (min, max))
    apart = worst["high"] < best["low"] and worst["ratio"] < best["ratio"] * (1 - target)
    if not apart:
        return ""
    if (worst["ratio"] < 1) != (best["ratio"] < 1):
        first, last = (describe_change(r) for r in (worst, best))
    else:
        ends = (best, worst) if main["ratio"] < 1 else (worst, best)
        first, last = (f"{describe_range([r])} on {r['unit_text']}" for r in ends)
    return f", from {first} to {last}"


def _list_models(part: _Part, main: Row) -> str:
    """The models of a pooled effect; apart those that do not show it by themselves."""
    rows = part.select(MODEL, main["placement"])
    shown = [r["models"][0] for r in rows if r["claimed"]]
    if not shown or len(shown) == len(part.models):
        return list_names(part.models)
    rest = [m for m in part.models if m not in shown]
    return f"{list_names(shown)} (not shown by itself in {list_names(rest)})"


def _describe_some(part: _Part, row: Row, target: float) -> str:
    """An effect in one placement on some GPUs or in some models only; "" where it is not so."""
    units = part.select(UNIT, row["placement"])
    hit, others = _divide(units)
    if hit and 0 < len(hit) < len(others) and _differ(hit, others):
        names = list_names([str(r["unit_text"]) for r in hit])
        text = f"{_subject(row)} {_verb(hit[0])} {name_models(part.bound, part.models)} "
        text += f"{describe_range(hit)} on {names} only"
        where = count_things(len(others), "other GPU" if row["gpus"] else "other node")
        return f"{text}; the {where}: {describe_silence(others, target)}."
    models = part.select(MODEL, row["placement"])
    hit, others = _divide(models)
    alone = len(hit) < len(others) and all(r["equal"] for r in others)
    if hit and others and (alone or not row["claimed"]):
        text = f"{_subject(row)} {_verb(hit[0])} "
        text += " and ".join(
            f"{r['models'][0]} {describe_size(r, describe_sample(r))}" for r in hit[:3]
        )
        rest = count_models(part.bound, part.models).removeprefix("The ")
        return f"{text}; the others of the {rest}: {describe_silence(others, target)}."
    return ""


def _divide(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows with a claim, and those without; none that a disturbance explains."""
    others = [r for r in rows if not r["claimed"] and not r["held_back"]]
    return [r for r in rows if r["claimed"]], others


def _differ(hit: Sequence[Row], others: Sequence[Row]) -> bool:
    """Whether the rows with a claim agree in sign, and the others exclude the smallest of them."""
    if len({r["ratio"] < 1 for r in hit}) > 1:
        return False
    least = min(hit, key=lambda r: abs(math.log(r["ratio"])))["ratio"]
    return all(not r["low"] <= least <= r["high"] for r in others)


def _describe_silent(part: _Part, rows: Sequence[Row], after: bool, target: float) -> str:
    """The placements of a group of models that show nothing."""
    if not after:
        where = "" if len(rows) == 1 else ", in every placement"
        return f"{count_models(part.bound, part.models)}{where}: {describe_silence(rows, target)}."
    return " ".join(f"{_subject(r).rstrip(',')}: {describe_silence([r], target)}." for r in rows)


def _describe_nothing(
    rows: Sequence[Row], short: Sequence[Row], needed: Sequence[int], target: float
) -> str:
    """The verdict where no placement shows an effect."""
    sample = describe_sample(rows[0])
    if not short:
        return f"No difference between placements: {describe_silence(rows, target)} ({sample})."
    if needed:
        advice = f"repeat with experiment.repeats={max(needed)}"
    else:
        advice = "find out what disturbs the runs"
    return (
        f"No difference found ({sample}), but one of {format_percent(target)} % could have been "
        f"missed: {advice}."
    )
