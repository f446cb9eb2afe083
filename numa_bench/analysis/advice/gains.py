"""What a binding gains, in words: pooled effects of other placements against local. Pure.

Rows are those of `stats.pooled`. Figures are the pooled table's own (placement over local), so that
"avoids a loss of 7 %" here is the "7 % slower" of the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from numa_bench.analysis.stats.pooled.words import list_names
from numa_bench.analysis.stats.sentences import format_percent
from numa_bench.labels import LOCAL, describe_placement, is_local
from numa_bench.records import JsonDict

SLOWER, FASTER, EQUAL, NONE_FOUND, UNKNOWN = "slower", "faster", "equal", "none_found", "unknown"
UNBOUND, REMOTE = "unbound", "remote"
#: More models than this with one outcome are counted instead of named.
_MOST_NAMES = 4


@dataclass(frozen=True)
class Effect:
    """One pooled contrast. `change`, `low`, `high`: placement over local, minus 1.

    `outcome` is one of the five above: `none_found` where the effect of interest would have been
    found, `unknown` where it could have been missed. `models` are their names; `bound` says what
    limits them (transfer, compute, host) and is "" for a contrast of one model.
    """

    placement: str
    level: str
    bound: str
    models: tuple[str, ...]
    outcome: str
    change: float
    low: float
    high: float
    detectable: float
    gpus: int
    repeats: int
    repeats_needed: int | None

    @property
    def largest(self) -> float:
        """The largest difference that the interval, or what could be detected, leaves open."""
        if self.outcome == NONE_FOUND:
            return self.detectable
        return max(abs(self.low), abs(self.high))

    def to_dict(self) -> JsonDict:
        numbers = ("change", "low", "high", "detectable")
        return {
            **{k: getattr(self, k) for k in ("placement", "level", "bound", "outcome")},
            "models": list(self.models),
            **{k: _finite(getattr(self, k)) for k in numbers},
            **{k: getattr(self, k) for k in ("gpus", "repeats", "repeats_needed")},
        }


def read_effects(pooled: pd.DataFrame, group: str, target: float) -> list[Effect]:
    """The effects of one group; `target` is the smallest effect of interest, a fraction."""
    if pooled.empty:
        return []
    chosen = (pooled["group"] == group) & pooled["level"].isin(("bound", "model"))
    rows = pooled[chosen].to_dict("records")
    return [_read_effect(row, target) for row in rows]


def _read_effect(row: dict[Any, Any], target: float) -> Effect:
    needed = row["repeats_needed"]
    return Effect(
        placement=str(row["placement"]),
        level=str(row["level"]),
        bound=str(row["bound"]),
        models=tuple(" ".join(str(m).split()) for m in row["models"]),
        outcome=_find_outcome(row, target),
        change=float(row["ratio"]) - 1,
        low=float(row["low"]) - 1,
        high=float(row["high"]) - 1,
        detectable=float(row["detectable"]),
        gpus=int(row["gpus"]),
        repeats=int(row["repeats"]),
        repeats_needed=None if pd.isna(needed) else int(needed),
    )


def _find_outcome(row: dict[Any, Any], target: float) -> str:
    # A difference inside the margin is a difference, but none that is worth a binding.
    if row["equal"]:
        return EQUAL
    if row["claimed"]:
        return SLOWER if row["ratio"] < 1 else FASTER
    return NONE_FOUND if row["detectable"] <= target else UNKNOWN


def select_placement(effects: Sequence[Effect], plain: str) -> list[Effect]:
    """The effects of a placement, with any CPU affinity."""
    return [e for e in effects if e.placement == plain or e.placement.startswith(f"{plain} (")]


def choose_reference(effects: Sequence[Effect]) -> str | None:
    """The placement that a binding is compared to: what happens to a process without one.

    That is `unbound` where it was measured, else the worst that a scheduler may choose.
    """
    others = [e for e in effects if not is_local(e.placement)]
    for plain in (UNBOUND, REMOTE):
        own = select_placement(others, plain)
        if own:
            return own[0].placement
    known = [e for e in others if not math.isnan(e.change)]
    return min(known, key=lambda e: e.change).placement if known else None


def describe_gains(
    effects: Sequence[Effect], placement: str, target: float, advised: str = LOCAL
) -> str:
    """What the advised one of a placement and local gains, by what bounds the models, or by model.

    "transfer-bound models (a, b): avoids a loss of 7 % (95 % CI 6.6 to 7.4, 8 GPUs x 5 repeats)".
    """
    say = _Words(advised == LOCAL, target)
    own = [e for e in effects if e.placement == placement]
    pools = [e for e in own if e.level == "bound"]
    covered = {model for e in pools for model in e.models}
    single = [e for e in own if e.level != "bound" and not covered.issuperset(e.models)]
    parts = [f"{_name_models(e)}: {say.describe(e, _list_members(own, e))}" for e in pools]
    return "; ".join([*parts, *_describe_models(single, say)])


@dataclass(frozen=True)
class _Words:
    """How outcomes are written, for advice to bind locally or to the other placement."""

    for_local: bool
    target: float

    def describe(self, effect: Effect, members: Sequence[Effect]) -> str:
        """One effect, with the range of the models in it."""
        if effect.outcome in (SLOWER, FASTER):
            by_model = _write_range(members) if len(members) > 1 else ""
            more = f", by model {by_model} %" if by_model else ""
            return f"{self._name_change(effect.outcome)} {describe_size(effect)}{more}"
        if effect.outcome == EQUAL:
            return f"no difference (equal within {format_percent(self.target)} %)"
        if effect.outcome == NONE_FOUND:
            shown = format_percent(effect.detectable)
            return f"no difference found ({shown} % or more would have shown)"
        return "not enough runs to say"

    def count(self, outcome: str, effects: Sequence[Effect]) -> str:
        """Many effects of one outcome."""
        if outcome in (SLOWER, FASTER):
            return f"{self._name_change(outcome)} {_write_range(effects)} %"
        return {
            EQUAL: f"no difference (equal within {format_percent(self.target)} %)",
            NONE_FOUND: "no difference found",
        }.get(outcome, "not enough runs to say")

    def _name_change(self, outcome: str) -> str:
        if self.for_local:
            return "avoids a loss of" if outcome == SLOWER else "loses"
        return "loses" if outcome == SLOWER else "gains"


def _list_members(effects: Sequence[Effect], pool: Effect) -> list[Effect]:
    """The effects of the single models of a pool."""
    return [e for e in effects if e.level != "bound" and set(e.models) <= set(pool.models)]


def _describe_models(effects: Sequence[Effect], say: _Words) -> list[str]:
    parts = []
    for outcome in (SLOWER, FASTER, EQUAL, NONE_FOUND, UNKNOWN):
        same = [e for e in effects if e.outcome == outcome]
        if len(same) > _MOST_NAMES:
            parts.append(f"{len(same)} models: {say.count(outcome, same)}")
        else:
            parts += [f"{_name_models(e)}: {say.describe(e, [])}" for e in same]
    return parts


def _name_models(effect: Effect) -> str:
    names = list_names(effect.models)
    if effect.level != "bound" or not effect.bound:
        return names
    return f"{effect.bound}-bound models ({names})"


def describe_size(effect: Effect) -> str:
    """ "7 % (95 % CI 6.6 to 7.4, 8 GPUs x 5 repeats)"; the size of a fall is positive."""
    sign = -1 if effect.change < 0 else 1
    low, high = sorted((sign * effect.low, sign * effect.high))
    gpus = f"{effect.gpus} GPU{'' if effect.gpus == 1 else 's'} x " if effect.gpus else ""
    return (
        f"{_write_size(effect.change)} % (95 % CI {format_percent(low)} to "
        f"{format_percent(high)}, {gpus}{effect.repeats} repeats)"
    )


def _write_range(effects: Sequence[Effect]) -> str:
    """The sizes of changes, from the least to the largest: "0.4 to 7".

    Where they are in both directions, they keep their signs.
    """
    changes = [e.change for e in effects]
    if min(changes) < 0 < max(changes):
        return f"{format_percent(min(changes))} to +{format_percent(max(changes))}"
    sizes = sorted(map(abs, changes))
    return f"{_write_size(sizes[0])} to {_write_size(sizes[-1])}"


def _write_size(change: float) -> str:
    """A change in percent, without its sign."""
    # A ratio minus 1 is not exactly the decimal that was written: 0.93 gives 0.06999.
    return format_percent(round(abs(change), 6))


def name_placement(label: str) -> str:
    """A placement's label, with what it means where the label needs that."""
    words = describe_placement(label)
    return f"{label} ({words})" if words else label


def describe_sides(effects: Sequence[Effect]) -> str:
    """Whether it is the CPUs or the memory that matters, where each was moved alone; else ""."""
    sides = {
        "memory": [e for e in effects if _find_far_side(e.placement) == "memory"],
        "CPUs": [e for e in effects if _find_far_side(e.placement) == "CPUs"],
    }
    if not all(sides.values()):
        return ""
    matters = [side for side, own in sides.items() if _find_worst(own) is not None]
    same = [s for s, own in sides.items() if all(e.outcome in (EQUAL, NONE_FOUND) for e in own)]
    if len(matters) == 2:
        so = " Both matter."
    elif matters and same:
        so = f" It is the {matters[0]} that matter{'s' if matters[0] == 'memory' else ''}."
    else:
        so = ""
    return (
        f"Memory alone on another node: {_say_side(sides['memory'])}. "
        f"CPUs alone on another node: {_say_side(sides['CPUs'])}.{so}"
    )


def _find_far_side(label: str) -> str:
    """Which side alone of a placement is not local: "memory", "CPUs", or ""."""
    cpus, apart, memory = label.partition(" (")[0].partition("/")
    if not apart or (cpus == LOCAL) == (memory == LOCAL):
        return ""
    return "memory" if cpus == LOCAL else "CPUs"


def _find_worst(effects: Sequence[Effect]) -> Effect | None:
    slower = [e for e in effects if e.outcome == SLOWER]
    return min(slower, key=lambda e: e.change, default=None)


def _say_side(effects: Sequence[Effect]) -> str:
    worst = _find_worst(effects)
    if worst is not None:
        return f"loses up to {describe_size(worst)} in {_name_models(worst)}"
    if all(e.outcome in (EQUAL, NONE_FOUND) for e in effects):
        largest = max(e.largest for e in effects)
        return f"no difference of more than {format_percent(largest)} %"
    return "not enough runs to say"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
