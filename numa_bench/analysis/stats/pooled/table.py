"""The table of pooled effects: what each class of placements costs models, over all GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numa_bench.analysis.stats.bounds import find_bounds
from numa_bench.analysis.stats.disturbed import (
    Pairs,
    explain_effect,
    is_seen,
    measure_pairs,
    withhold_claims,
)
from numa_bench.analysis.stats.families import (
    list_comparisons,
    remove_study_drift,
    select_usable_runs,
)
from numa_bench.analysis.stats.pooled.estimate import Grid, Pooled, Selection, pool_differences
from numa_bench.analysis.stats.pooled.grid import Cells, make_grid
from numa_bench.labels import find_base_label

#: What a row pools: models that are limited by the same thing, one model, or such models on one
#: GPU. The first two are corrected together, the third by itself.
BOUND, MODEL, UNIT = "bound", "model", "unit"
POOLED_COLUMNS = (
    "group", "metric", "level", "models", "model_text", "bound", "placement", "distance_text",
    "unit_text", "units", "gpus", "repeats", "ratio", "low", "high", "p_value", "p_holm", "claimed",
    "equal", "detectable", "repeats_needed", "family_size", "noise_ratio", "held_back",
)  # fmt: skip
#: Policies of memory that a placement's name does not need.
_PLAIN = ("bind", "none")
_NO_BOUND = ""


@dataclass(frozen=True)
class _Names:
    """What the indices of a grid mean."""

    models: tuple[str, ...]
    units: tuple[str, ...]
    places: tuple[str, ...]
    bounds: tuple[str, ...]  # of each model


def pool_effects(frame: pd.DataFrame, metric: str, target: float) -> pd.DataFrame:
    """One row per pooled contrast with local; columns are `POOLED_COLUMNS`.

    `level` is one of the three above; `models` a tuple of their names; `units` the GPUs that are
    averaged, or without GPUs the nodes that threads ran on, and `unit_text` their names. `ratio` is
    of robust means with a 95 % interval; `equal`: the interval is within +-`target`, a fraction
    (two one-sided tests); `noise_ratio` is the noise of such runs over that of local ones;
    `detectable`, `repeats_needed` and `held_back` as in `stats.tables.effect_table`.
    """
    runs = select_usable_runs(frame, metric)
    tables = [
        table
        for _, members in (runs.groupby("group", sort=False) if not runs.empty else ())
        for table in _pool_group(members, metric, target)
    ]
    if not tables:
        return pd.DataFrame(columns=list(POOLED_COLUMNS))
    return pd.concat(tables, ignore_index=True).reindex(columns=list(POOLED_COLUMNS))


def _pool_group(members: pd.DataFrame, metric: str, target: float) -> Iterator[pd.DataFrame]:
    rows = list_comparisons(members)
    if not rows:
        return
    cells, names = _arrange_cells(members, metric, rows)
    grid = make_grid(cells)
    paired = _pair_cells(members, rows, cells)
    shown = [*_list_groups(grid, names), *_list_models(grid, names)]
    for selections in (shown, _list_units(grid, names)):
        if selections:
            pooled = pool_differences(grid, [s for _, s in selections], target)
            table = _make_table(selections, pooled, names, grid, target)
            table["held_back"] = [
                paired.explain(selection, float(row["ratio"]), str(row["placement"]))
                if is_seen(row)
                else ""
                for (_, selection), row in zip(selections, table.to_dict("records"), strict=True)
            ]
            table = withhold_claims(table)
            distances = _describe_distances(members)
            yield table.assign(
                group=members["group"].iloc[0],
                metric=metric,
                distance_text=[distances.get(str(p), "") for p in table["placement"]],
                gpus=table["units"] if (members["device"] == "cuda").all() else 0,
            )


def _arrange_cells(
    members: pd.DataFrame, metric: str, rows: list[list[str]]
) -> tuple[Cells, _Names]:
    """The runs of a group by setting, placement and block, and what the numbers stand for."""
    logs, spent = remove_study_drift(members, metric)
    block = members["study_dir"].astype(str) + " " + members["repeat"].astype(str)
    by_block = logs.groupby([members["cell"], block]).mean().unstack()
    described = members.drop_duplicates("cell").to_dict("records")
    cell = {str(c["cell"]): c for c in described}
    places = [[_name_place(cell[c]) for c in row[1:]] for row in rows]
    models = [str(cell[row[0]]["model_text"]) for row in rows]
    units = [_name_unit(cell[row[0]]) for row in rows]
    names = _Names(
        models=tuple(dict.fromkeys(models)),
        units=tuple(dict.fromkeys(units)),
        places=tuple(dict.fromkeys(p for row in places for p in row)),
        bounds=(),
    )
    width = max(map(len, rows))
    values = np.full((len(rows), width, by_block.shape[1]), np.nan)
    place = np.full((len(rows), width), -1)
    for i, row in enumerate(rows):
        values[i, : len(row)] = by_block.reindex(row).to_numpy()
        place[i, 1 : len(row)] = [names.places.index(p) for p in places[i]]
    arranged = Cells(
        values=values,
        model=np.array([names.models.index(m) for m in models]),
        unit=np.array([names.units.index(u) for u in units]),
        place=place,
        spent=spent,
    )
    bounds = _bounds_of_models(members, [row[0] for row in rows], models)
    return arranged, _Names(
        names.models, names.units, names.places, tuple(bounds[m] for m in names.models)
    )


@dataclass(frozen=True)
class _Paired:
    """The comparisons of a group with what disturbed them, and where each belongs."""

    pairs: Pairs
    model: NDArray[np.intp]
    unit: NDArray[np.intp]
    place: NDArray[np.intp]
    base: str

    def explain(self, selection: Selection, ratio: float, placement: str) -> str:
        """Why a contrast cannot be attributed to placement, "" where it can."""
        chosen = (
            np.isin(self.model, selection.models)
            & np.isin(self.unit, selection.units)
            & (self.place == selection.place)
        )
        return explain_effect(self.pairs, np.flatnonzero(chosen), ratio, (placement, self.base))


def _pair_cells(members: pd.DataFrame, rows: list[list[str]], cells: Cells) -> _Paired:
    at = [(i, j) for i, row in enumerate(rows) for j in range(1, len(row))]
    i, j = np.array(at).T
    pairs = measure_pairs(members, [rows[a][b] for a, b in at], [rows[a][0] for a, _ in at])
    base = find_base_label(members["placement"]) or ""
    return _Paired(pairs, cells.model[i], cells.unit[i], cells.place[i, j], base)


def _name_place(cell: Mapping[Any, Any]) -> str:
    policy = cell["memory_policy"]
    label = str(cell["placement"])
    return label if pd.isna(policy) or policy in _PLAIN else f"{label} ({policy})"


def _name_unit(base: Mapping[Any, Any]) -> str:
    """The device of a local cell, or without a GPU the node of its threads."""
    if base["device"] == "cuda" or pd.isna(base["numa_node"]):
        return str(base["device_text"])
    return f"node {base['numa_node']:.0f}"


def _bounds_of_models(
    members: pd.DataFrame, bases: Sequence[str], models: Sequence[str]
) -> dict[str, str]:
    """What limits most of each model's local cells."""
    bounds = find_bounds(members).reindex(list(bases)).fillna(_NO_BOUND)
    table = pd.DataFrame({"model": list(models), "bound": bounds.to_numpy()})
    return {str(m): str(b.mode().iloc[0]) for m, b in table.groupby("model")["bound"]}


def _describe_distances(members: pd.DataFrame) -> dict[str, str]:
    """The distance of each placement, where all its cells have the same."""
    texts = members.drop_duplicates("cell").groupby("placement")["distance_text"].unique()
    return {str(p): t[0] for p, t in texts.items() if len(t) == 1 and isinstance(t[0], str)}


_Named = tuple[str, Selection]


def _list_groups(grid: Grid, names: _Names) -> list[_Named]:
    """All models that are limited by the same thing, on all units."""
    units = tuple(range(len(names.units)))
    return [
        (BOUND, Selection(models, units, place))
        for place in range(len(names.places))
        for models in _group_models(names)
        if _is_known(grid, Selection(models, units, place))
    ]


def _list_models(grid: Grid, names: _Names) -> list[_Named]:
    """Each model that is not the only one of its group."""
    units = tuple(range(len(names.units)))
    return [
        (MODEL, Selection((model,), units, place))
        for place in range(len(names.places))
        for models in _group_models(names)
        if len(models) > 1
        for model in models
        if _is_known(grid, Selection((model,), units, place))
    ]


def _list_units(grid: Grid, names: _Names) -> list[_Named]:
    """All models that are limited by the same thing, on each of several units."""
    if len(names.units) < 2:
        return []
    return [
        (UNIT, Selection(models, (unit,), place))
        for place in range(len(names.places))
        for models in _group_models(names)
        for unit in range(len(names.units))
        if _is_known(grid, Selection(models, (unit,), place))
    ]


def _group_models(names: _Names) -> list[tuple[int, ...]]:
    return [
        tuple(i for i, b in enumerate(names.bounds) if b == bound)
        for bound in dict.fromkeys(names.bounds)
    ]


def _is_known(grid: Grid, selection: Selection) -> bool:
    part = grid.difference[np.ix_(selection.models, selection.units)][..., selection.place]
    return bool(np.isfinite(part).any())


def _make_table(
    selections: Sequence[_Named], pooled: Pooled, names: _Names, grid: Grid, target: float
) -> pd.DataFrame:
    low, high = np.exp(pooled.low), np.exp(pooled.high)
    chosen = [selection for _, selection in selections]
    models = [tuple(names.models[m] for m in s.models) for s in chosen]
    return pd.DataFrame(
        {
            "level": [level for level, _ in selections],
            "models": models,
            "model_text": [", ".join(m) for m in models],
            "bound": [names.bounds[s.models[0]] for s in chosen],
            "placement": [names.places[s.place] for s in chosen],
            "unit_text": [", ".join(names.units[u] for u in s.units) for s in chosen],
            "units": pooled.units,
            "repeats": grid.repeats,
            "ratio": np.exp(pooled.estimate),
            "low": low,
            "high": high,
            "p_value": pooled.p,
            "p_holm": pooled.p_holm,
            "claimed": pooled.claimed & ((low > 1) | (high < 1)),
            "equal": (low > 1 - target) & (high < 1 / (1 - target)),
            "detectable": -np.expm1(-pooled.detectable),
            "repeats_needed": pooled.repeats,
            "family_size": len(chosen),
            "noise_ratio": [grid.noise[s.place] for s in chosen],
        }
    )
