"""Pure: pooled effects as tables of the page and of the terminal."""

from __future__ import annotations

import math

import pandas as pd

from numa_bench.analysis.plots import style
from numa_bench.analysis.plots.pooled_lines import BOUND, MODEL, UNIT, find_distance, rank_bound
from numa_bench.analysis.report.columns import (
    ABSENT,
    Cell,
    Column,
    Record,
    Table,
    build_table,
    format_change,
    format_count,
    format_probability,
    format_share,
    has_value,
    number_column,
    text_column,
    without_empty,
)
from numa_bench.analysis.stats.pooled.words import list_names

CSV = "tables/pooled.csv"


def select_levels(pooled: pd.DataFrame, *levels: str) -> pd.DataFrame:
    """The rows of some levels, each group of models together and its placements near before far."""
    if pooled.empty:
        return pooled
    places = style.order_placements(pooled["placement"])
    rows = pooled[pooled["level"].isin(levels)]
    keys = pd.DataFrame(
        {
            "group": pd.factorize(rows["group"])[0],
            "bound": rows["bound"].map(rank_bound),
            "level": rows["level"].map([BOUND, MODEL, UNIT].index),
            "model": pd.factorize(rows["model_text"])[0],
            "place": rows["placement"].map(places.index),
        },
        index=rows.index,
    )
    return rows.loc[keys.sort_values(list(map(str, keys)), kind="stable").index]


def shorten_models(text: str) -> str:
    """The first of a list of models and how many more; the CSV has all."""
    return list_names(text.split(", "))


def describe_outcome(row: Record, target: float) -> str:
    """What a pooled effect comes to in a few words; `target` is a fraction.

    "slower", "slower, by less than 2 %", "equal within 2 %", "no difference found".
    """
    within = style.format_percent(target, sign=False).replace(".0", "")
    if not has_value(row["p_holm"]):
        return "too few runs"
    if row["held_back"]:
        return f"no verdict: {row['held_back']}"
    if not row["claimed"]:
        return f"equal within {within}" if row["equal"] else "no difference found"
    word = "slower" if row["ratio"] < 1 else "faster"
    return f"{word}, by less than {within}" if row["equal"] else word


def count_runs(row: Record) -> str:
    """GPUs, or nodes without a GPU, and repeats: "8 × 5"."""
    return f"{row['units']} × {row['repeats']}"


def name_units(table: pd.DataFrame) -> str:
    """What effects are pooled over: "GPUs", "nodes", or both in different groups."""
    kinds = {"GPUs" if gpus else "nodes" for gpus in table["gpus"]}
    return " or ".join(sorted(kinds))


def _shorten_distance(text: str) -> str:
    """The greatest distance alone: the placement's name says which side is how far."""
    return find_distance(text).removeprefix("distance ") or text


def _interval(row: Record) -> Cell:
    """ "−2.1 to −1.5 %": short, as this table has many columns."""
    low, high = (float(row[key]) for key in ("low", "high"))
    if not (math.isfinite(low) and math.isfinite(high)):
        return Cell(ABSENT)
    return Cell(
        f"{format_change(low).removesuffix(f'{style.THIN}%')} to {format_change(high)}", low
    )


def pooled_table(table: pd.DataFrame, target: float, csv: str = CSV) -> Table:
    """One row per pooled effect, with its outcome; rows as `select_levels` orders them."""
    single = (table["level"] == UNIT).all()
    kind = name_units(table)
    runs = Column(
        f"{kind} × repeats",
        lambda row: Cell(count_runs(row), float(row["units"])),
        numeric=True,
    )
    columns = (
        *((text_column("unit_text", kind.removesuffix("s")),) if single else ()),
        text_column("model_text", "models", shorten_models),
        text_column("bound", "bound by"),
        text_column("placement", "placement"),
        text_column("distance_text", "distance", _shorten_distance),
        Column("outcome", lambda row: Cell(describe_outcome(row, target))),
        number_column("ratio", "change", format_change),
        Column("95 % interval", _interval, numeric=True),
        number_column(
            "p_holm", "p (Holm)", format_probability, "corrected for the number of pooled effects"
        ),
        number_column(
            "detectable", "detectable", format_share, "smallest effect that this study could detect"
        ),
        number_column(
            "repeats_needed",
            "repeats needed",
            format_count,
            f"repeats that detect a change of {style.format_percent(target, sign=False)}",
        ),
        *(() if single else (runs,)),
    )
    table = table.assign(**{k: table[k].replace("", None) for k in ("bound", "distance_text")})
    return without_empty(build_table(columns, table, csv))
