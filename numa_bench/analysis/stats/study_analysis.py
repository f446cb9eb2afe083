"""From loaded runs to everything that is told of them: one value that page and terminal share."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from numa_bench.analysis.read import groups as grouping
from numa_bench.analysis.read.runs import Loaded
from numa_bench.analysis.stats import questions
from numa_bench.analysis.stats import tables as stats
from numa_bench.analysis.stats.compare import Comparison
from numa_bench.analysis.stats.verdicts import StudyVerdict, Verdict, judge_cells, judge_studies

QUESTIONS = {
    "compile": questions.compile_table,
    "scaling": questions.scaling_table,
    "batch": questions.batch_table,
    "resolution": questions.resolution_table,
    "pipeline": questions.pipeline_table,
    "bandwidth": questions.bandwidth_table,
}


@dataclass(frozen=True)
class Analysis:
    """What is known of one study, of several, or of two that are compared.

    `cells` and `effects` are of throughput, `latency` and `latency_effects` of the 95th percentile
    of latency (tables of `stats.tables`); `questions` holds the tables of `stats.questions`
    that are not empty; `profiles` has one row per profiled run (`profiles.table`); `target` is
    the smallest effect of interest, as a fraction.
    """

    name: str
    loaded: Loaded
    cells: pd.DataFrame
    latency: pd.DataFrame
    effects: pd.DataFrame
    latency_effects: pd.DataFrame
    verdicts: list[Verdict]
    study_verdicts: list[StudyVerdict]
    groups: pd.DataFrame
    differences: pd.DataFrame
    excluded: pd.DataFrame
    questions: dict[str, pd.DataFrame]
    profiles: pd.DataFrame
    target: float
    created: str
    command: str
    comparison: Comparison | None = None
    versions: dict[str, str] = field(default_factory=dict)


def analyse_study(
    name: str,
    loaded: Loaded,
    *,
    profiles: pd.DataFrame,
    target: float,
    seed: int,
    created: str,
    command: str,
    comparison: Comparison | None = None,
    versions: dict[str, str] | None = None,
) -> Analysis:
    """Compute every table. Pure and, for a seed, repeatable."""
    frame = loaded.frame
    effects = stats.effect_table(frame, seed=seed)
    found = judge_cells(effects, frame, target=target)
    latency = "latency_p95_ms"
    tables = {key: table(frame) for key, table in QUESTIONS.items()}
    return Analysis(
        name=name,
        loaded=loaded,
        cells=stats.cell_table(frame),
        latency=stats.cell_table(frame, metric=latency),
        effects=effects,
        latency_effects=stats.effect_table(frame, metric=latency, seed=seed),
        verdicts=found,
        study_verdicts=judge_studies(found, frame),
        groups=grouping.group_table(frame),
        differences=grouping.difference_table(loaded),
        excluded=grouping.excluded_table(frame),
        questions={key: table for key, table in tables.items() if not table.empty},
        profiles=profiles,
        target=target,
        created=created,
        command=command,
        comparison=comparison,
        versions=versions or {},
    )
