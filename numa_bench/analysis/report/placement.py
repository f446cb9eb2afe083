"""The section on placement: pooled effects first, then GPUs and single comparisons, collapsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from numa_bench.analysis.plots.pooled_lines import BOUND, MODEL, UNIT
from numa_bench.analysis.report import tables
from numa_bench.analysis.report.blocks import Block, Pick
from numa_bench.analysis.report.pooled import name_units, pooled_table, select_levels

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: Sign and label for each kind of verdict; the sign conveys the kind without colour.
KIND_SIGNS = {
    "effect": ("≠", "difference found"),
    "no_difference": ("=", "no difference"),
    "not_enough": ("?", "not enough runs"),
    "no_verdict": ("–", "no verdict"),
    "regression": ("↓", "regression"),
    "compared": ("⇄", "studies compared"),
    "simulated": ("!", "simulated machine"),
    "confounded": ("!", "confounded with time"),
}
#: With more pooled effects, those of single models are collapsed.
_MOST_OPEN = 12


def build_placement(analysis: Analysis, of: Pick) -> Iterator[Block]:
    """Before against after if two are compared, pooled effects, and what they are made of."""
    if analysis.comparison is not None:
        table = analysis.comparison.table
        shown = tables.comparison_table(table, "tables/comparison.csv")
        label = f"Cells before and after: {len(table)}"
        yield Block("After against before", "", of("comparison"), shown, label)
        yield from build_plain("Cells on only one side", analysis.comparison.unmatched)
        yield from build_plain("Other differences between the two", analysis.comparison.differences)
    yield from _build_pooled(analysis, of)
    yield from _build_comparisons(analysis, of)


def _build_pooled(analysis: Analysis, of: Pick) -> Iterator[Block]:
    """Figure and table of pooled effects; single models apart where there are many, then units."""
    pooled, target = analysis.pooled, analysis.target
    if pooled.empty:
        return
    shown = select_levels(pooled, BOUND, MODEL)
    models = shown[shown["level"] == MODEL]
    apart = len(shown) > _MOST_OPEN and not models.empty
    table = shown[shown["level"] == BOUND] if apart else shown
    yield from (Block(pictures=[p]) for p in of("pooled"))
    yield Block(table=pooled_table(table, target))
    if apart:
        label = f"Each model over all {name_units(models)}: {len(models)} effects"
        yield Block(closed=label, table=pooled_table(models, target))
    units = select_levels(pooled, UNIT)
    if not units.empty:
        kind = name_units(units).removesuffix("s")
        label = f"Each {kind} by itself: {len(units)} effects"
        yield Block(closed=label, table=pooled_table(units, target))


def _build_comparisons(analysis: Analysis, of: Pick) -> Iterator[Block]:
    """Heat map and single comparisons, collapsed where pooled effects are shown."""
    closed = not analysis.pooled.empty
    maps = of("gpu_node_heatmap")
    if maps:
        label = "Map of devices and nodes" if closed else ""
        yield Block(closed=label, pictures=maps)
    if not analysis.effects.empty:
        count = len(analysis.effects)
        shown = tables.effects_table(
            analysis.effects, _verdicts_by_cell(analysis), "tables/effects.csv"
        )
        label = f"All {count} comparisons with local" if count > 1 else "The comparison with local"
        pictures = of("effects")
        if closed:
            yield Block(closed=label, pictures=pictures, table=shown)
        else:
            yield Block(pictures=pictures, table=shown, folded=label)
    elif analysis.verdicts:
        yield Block(lines=sorted({v.text for v in analysis.verdicts}))


def _verdicts_by_cell(analysis: Analysis) -> dict[str, tuple[str, str]]:
    """Outcome in a word or two, and the verdict's sentence, by cell."""
    rows = {row["cell"]: row for row in analysis.effects.to_dict("records")}
    return {
        v.cell: (tables.outcome_text(rows.get(v.cell, {}), KIND_SIGNS[v.kind][1]), v.text)
        for v in analysis.verdicts
    }


def build_plain(title: str, table: pd.DataFrame, csv: str = "") -> Iterator[Block]:
    """A table with all its columns below a heading; nothing where it has no rows."""
    if not table.empty:
        yield Block(title, table=tables.plain_table(table, csv))
