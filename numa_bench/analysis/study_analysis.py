"""From loaded runs to all results of an analysis: one value that page and terminal share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from numa_bench.analysis.advice.advice import advise
from numa_bench.analysis.advice.result import Advice
from numa_bench.analysis.questions.registry import load_questions
from numa_bench.analysis.read import groups as grouping
from numa_bench.analysis.read.runs import Loaded
from numa_bench.analysis.stats import tables as stats
from numa_bench.analysis.stats.compare.studies import Comparison
from numa_bench.analysis.stats.pooled.hosts import HostComparison, compare_hosts
from numa_bench.analysis.stats.pooled.table import pool_effects
from numa_bench.analysis.stats.verdicts import (
    NO_VERDICT,
    StudyVerdict,
    Verdict,
    judge_cells,
    judge_studies,
)


@dataclass(frozen=True)
class Analysis:
    """The results for one study, for several, or for two that are compared.

    `pooled` has effects pooled over GPUs and models (`stats.pooled.table`), which the verdict on
    each group is about. `cells` and `effects` are tables of throughput, or of the bandwidth that a
    bandwidth study compares, `latency` and `latency_effects` of the 95th percentile of latency
    (see `stats.tables`). `questions` holds the table of each question that
    the study answers, by `Question.key`. `profiles` has one row per profiled run
    (`profiles.table`), `nvbandwidth` one per copy that nvbandwidth measured too.
    `target` is the smallest effect of interest, as a fraction. `advice` says what to do, once per
    group. `hosts` compares the pooled effects of several hosts.
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
    nvbandwidth: pd.DataFrame = field(default_factory=pd.DataFrame)
    pooled: pd.DataFrame = field(default_factory=pd.DataFrame)
    advice: tuple[Advice, ...] = ()
    hosts: HostComparison = field(default_factory=HostComparison)


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
    nvbandwidth: pd.DataFrame | None = None,
) -> Analysis:
    """Compute every table. Pure, and repeatable for a given seed."""
    frame = loaded.frame
    effects = _each_metric(frame, stats.effect_table, seed=seed, target=target)
    pooled = _each_metric(frame, pool_effects, target=target)
    groups, differences = grouping.group_table(frame), grouping.difference_table(loaded)
    verdicts = judge_cells(effects, frame, target=target)
    latency = "latency_p95_ms"
    # Only pipelines have batches, and so a latency of a batch.
    batches = frame if frame.empty else frame[frame["headline"] == stats.THROUGHPUT]
    tables = {key: question.make_table(frame) for key, question in load_questions().items()}
    answers = {key: table for key, table in tables.items() if not table.empty}
    return Analysis(
        name=name,
        loaded=loaded,
        cells=_each_metric(frame, stats.cell_table),
        latency=stats.cell_table(batches, metric=latency),
        effects=effects,
        latency_effects=stats.effect_table(batches, metric=latency, seed=seed),
        verdicts=verdicts,
        study_verdicts=[
            _add_answers(v, answers) for v in judge_studies(verdicts, frame, pooled, target)
        ],
        groups=groups,
        differences=differences,
        excluded=grouping.excluded_table(frame),
        questions=answers,
        profiles=profiles,
        target=target,
        created=created,
        command=command,
        comparison=comparison,
        versions=versions or {},
        nvbandwidth=pd.DataFrame() if nvbandwidth is None else nvbandwidth,
        pooled=pooled,
        advice=advise(pooled, loaded, target),
        # Two studies that are compared are groups too, but not hosts side by side.
        hosts=HostComparison()
        if comparison is not None
        else compare_hosts(pooled, groups, differences, target),
    )


def _add_answers(verdict: StudyVerdict, tables: Mapping[str, pd.DataFrame]) -> StudyVerdict:
    """The verdict on a group, which names the answers that do not compare placements.

    A study of one placement may have been made for another question.
    """
    if verdict.kind != NO_VERDICT:
        return verdict
    summaries = [
        question.summarize(tables[key][tables[key]["group"] == verdict.group])
        for key, question in load_questions().items()
        if key in tables
    ]
    known = [text for text in summaries if text]
    if not known:
        return verdict
    on_placement = verdict.text.replace("No verdict:", "No verdict on placement:", 1)
    return replace(verdict, text=" ".join([*known, on_placement]))


def _each_metric(
    frame: pd.DataFrame, build: Callable[..., pd.DataFrame], **settings: Any
) -> pd.DataFrame:
    """A table of all runs, those of each headline metric by themselves.

    Runs with different metrics are of different groups, so no comparison is lost.
    """
    metrics = [] if frame.empty else list(dict.fromkeys(frame["headline"]))
    if len(metrics) < 2:
        return build(frame, metric=metrics[0] if metrics else stats.THROUGHPUT, **settings)
    parts = [build(frame[frame["headline"] == m], metric=m, **settings) for m in metrics]
    return pd.concat([part for part in parts if not part.empty] or parts[:1], ignore_index=True)
