"""Tables of runs and verdicts of made-up studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.pooled.table import pool_effects
from numa_bench.analysis.stats.tables import TARGET, THROUGHPUT, effect_table
from numa_bench.analysis.stats.verdicts import Verdict, judge_cells
from tests.fake_pipeline import Noise
from tests.fake_study import Scenario, write_study

QUIET = Noise(sd=0.003, drift=0.0, outliers=0.0)


def runs_of(tmp_path: Path, scenario: Scenario) -> pd.DataFrame:
    """The table of one made-up study."""
    return load_runs([write_study(tmp_path, replace(scenario, raw=0))])


def judged(runs: pd.DataFrame, **settings: Any) -> list[Verdict]:
    return judge_cells(effect_table(runs, **settings), runs, **settings)


def pooled(runs: pd.DataFrame, target: float = TARGET) -> pd.DataFrame:
    """Effects pooled over GPUs and models."""
    return pool_effects(runs, THROUGHPUT, target)
