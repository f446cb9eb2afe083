"""Does a variant of a command help? Variants against the first one, in the same placement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.questions.base import ColumnSpec, Question
from numa_bench.analysis.read.commands import select_commands
from numa_bench.analysis.stats.contrasts import Contrasts, compare_cells
from numa_bench.analysis.stats.disturbed import explain_effect, is_seen, measure_pairs
from numa_bench.analysis.stats.families import (
    HEADLINE,
    group_by_key,
    remove_study_drift,
    stack_cells,
)
from numa_bench.analysis.stats.sentences import describe_change, format_percent
from numa_bench.analysis.stats.tables import TARGET, join_cell_marks

VARIANT_COLUMNS = (
    "group", "cell", "device_text", "gpu_id", "vit_name", "base_name", "placement",
    "placement_text", "n", "n_base", "median", "base_median", "unit", "ratio", "low", "high",
    "p_holm", "claimed", "detectable", "text", "marks",
)  # fmt: skip
#: The index of a single comparison.
_ONLY = np.array([0])
#: What two variants must share to be compared: all but the command.
_PLACE = ("group", "device_text", "gpu_uuid", "placement", "placement_text")


def tabulate_variants(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Each variant against the first one in the same placement; columns are `VARIANT_COLUMNS`.

    `ratio` is variant over first, below 1 where it is worse, with interval and corrected p-value as
    in `stats`; the family is all of these comparisons in one group. An effect that a disturbance
    explains is not claimed, and `text` says so.
    """
    empty = pd.DataFrame(columns=list(VARIANT_COLUMNS))
    runs = select_commands(frame)
    if runs.empty:
        return empty
    runs = runs[runs["in_statistics"].astype(bool)]
    tables = []
    for _, members in runs.groupby("group", sort=False):
        # Variants of one study: commands of different studies were not meant to be compared.
        rows = [
            list(cells.sort_values("command_variant", kind="stable")["cell"])
            for _, place in members.groupby(["study_dir", *_PLACE], sort=False, dropna=False)
            if (cells := place.drop_duplicates("cell"))["command_variant"].nunique() > 1
        ]
        if rows:
            tables.append(_compare(members, rows, seed))
    return pd.concat(tables, ignore_index=True) if tables else empty


def _compare(members: pd.DataFrame, rows: list[list[str]], seed: int) -> pd.DataFrame:
    """The comparisons of one group; each row of cells starts with the first variant."""
    logs, spent = remove_study_drift(members, HEADLINE)
    cells, values = stack_cells(rows, group_by_key(logs, members["cell"]))
    contrasts = compare_cells(values, spent, TARGET, seed)
    counts = np.isfinite(values).sum(axis=-1)
    medians = members.groupby("cell")[HEADLINE].median()
    first = members.drop_duplicates("cell").set_index("cell", drop=False)
    marks = join_cell_marks(members)
    table = []
    for i, row in enumerate(cells):
        base = first.loc[row[0]]
        for j, cell in enumerate(row[1:], 1):
            if not cell:
                continue
            own: dict[str, Any] = {
                **_read_contrast(contrasts, i, j),
                "vit_name": first.loc[cell, "vit_name"],
                "base_name": base["vit_name"],
                "unit": base["headline_unit"],
                "n": int(counts[i, j]),
                "n_base": int(counts[i, 0]),
                "median": float(medians[cell]),
                "base_median": float(medians[row[0]]),
                "marks": marks.get(cell, ""),
            }
            if not np.isfinite(own["ratio"]):  # too few runs for a fit
                ratio = own["median"] / own["base_median"]
                own["ratio"] = 1 / ratio if base["lower_is_better"] else ratio
            held = _explain(members, own, cell, row[0]) if is_seen(own) else ""
            own["claimed"] = own["claimed"] and not held
            own["text"] = held or describe_variant(own)
            names = [name for name in VARIANT_COLUMNS if name in first and name not in own]
            table.append({**{name: first.loc[cell, name] for name in names}, **own})
    return pd.DataFrame(table, columns=list(VARIANT_COLUMNS))


def _explain(members: pd.DataFrame, row: Mapping[str, Any], cell: str, base: str) -> str:
    """Why an effect cannot be attributed to the variant, "" where it can."""
    pairs = measure_pairs(members, [cell], [base])
    names = (str(row["vit_name"]), str(row["base_name"]))
    return explain_effect(pairs, _ONLY, row["ratio"], names, what="the variant")


def _read_contrast(contrasts: Contrasts, i: int, j: int) -> dict[str, Any]:
    return {
        "ratio": float(np.exp(contrasts.difference[i, j])),
        "low": float(np.exp(contrasts.low[i, j])),
        "high": float(np.exp(contrasts.high[i, j])),
        "p_holm": float(contrasts.p_holm[i, j]),
        "claimed": bool(contrasts.claimed[i, j]),
        "detectable": float(-np.expm1(-contrasts.detectable[i, j])),
    }


def describe_variant(row: Mapping[str, Any]) -> str:
    """What a comparison of two variants says, without their names."""
    if row["claimed"]:
        return describe_change(row)
    if not np.isfinite(row["detectable"]):
        return "too few runs for a verdict; use 5 repeats or more"
    if row["low"] > 1 - TARGET and row["high"] < 1 / (1 - TARGET):
        return f"equal within {format_percent(TARGET)} %"
    seen = format_percent(row["detectable"])
    return f"no difference found; {seen} % or more would have shown"


def summarize_variants(table: pd.DataFrame) -> str:
    """ "bound against plain: unbound 7.2 % faster (...), local no difference found; ..."."""
    texts = []
    for (name, base), rows in table.groupby(["vit_name", "base_name"], sort=False):
        parts = [f"{row['placement']} {row['text']}" for row in rows.to_dict("records")]
        texts.append(f"{name} against {base}: {', '.join(parts)}.")
    return " ".join(texts)


QUESTION = Question(
    key="command_variants",
    title="Does a variant help?",
    order=10,
    make_table=tabulate_variants,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("vit_name", "variant"),
        ColumnSpec("base_name", "against"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec("median", "median", "three_decimals"),
        ColumnSpec("base_median", "first's", "three_decimals"),
        ColumnSpec("unit", "unit"),
        ColumnSpec("text", "in words"),
        ColumnSpec("p_holm", "p (Holm)", "probability"),
        ColumnSpec("marks", "marks"),
    ),
    caption="Each variant against the first one in the same placement, in the same random blocks.",
    summarize=summarize_variants,
)
