"""The direction of a metric: what takes longer is slower, in every table and sentence."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.stats.compare.studies import compare_studies
from numa_bench.analysis.stats.tables import cell_table, effect_table
from numa_bench.analysis.study_analysis import Analysis, analyse_study
from numa_bench.jsonio import write_json
from numa_bench.machine.topology import discover_topology
from numa_bench.records import (
    COMMAND,
    CommandSpec,
    Execution,
    NamedMetric,
    Placement,
    RunResult,
    RunSpec,
    Status,
    VitSpec,
    make_record,
)
from tests.specs import TEST, UNBOUND, make_spec

LOCAL = Placement(0, (0,), "bind", "local", (0,))
LATENCY = NamedMetric("p99", "lower", "ms", "x")
RATE = NamedMetric("rate", "higher", "tok/s", "x")


def make_study(directory: Path, *metrics: NamedMetric, slow: float = 1.2, repeats: int = 6) -> Path:
    """A study of a command that takes `slow` times as long unbound; p99 and rate follow."""
    records = []
    for repeat in range(repeats):
        for placement, factor in ((LOCAL, 1.0), (UNBOUND, slow)):
            noise = 1 + 0.002 * ((repeat * 7 + (factor > 1)) % 5 - 2)
            records.append(_record(placement, metrics, repeat, factor * noise))
    write_json(directory / "results.json", records)
    write_json(directory / "topology.json", discover_topology().to_dict())
    return directory


def _record(
    placement: Placement, metrics: tuple[NamedMetric, ...], repeat: int, time: float
) -> Any:
    spec = RunSpec(
        study="commands",
        run_id=f"{placement.label}_r{repeat}",
        repeat=repeat,
        vit=VitSpec("train.py", 0, 0, 0, 0, 0, 0),
        test=TEST,
        device=make_spec().device,
        placement=placement,
        workload=COMMAND,
        command=CommandSpec(("python", "train.py"), metrics=metrics),
    )
    values: dict[str, float | None] = {
        "wall_s": 10 * time,
        "metric_p99": 5 * time,
        "metric_rate": 100 / time,
    }
    result = RunResult(spec.run_id, spec.cell_hash(), "passed", metrics=values)
    start = f"2026-01-31T10:{repeat:02d}:00.000+00:00"
    execution = Execution(Status.PASSED, 0, None, start, 10 * time, 1, "o", "e")
    return copy.deepcopy(make_record(spec, result, execution, "host"))


def analysed(directory: Path) -> Analysis:
    return analyse_study(
        "commands", load_studies([directory]), profiles=pd.DataFrame(), target=0.02, seed=0,
        created="now", command="analyze",
    )  # fmt: skip


@pytest.mark.parametrize("metrics", [(), (LATENCY,), (RATE,), (RATE, LATENCY)])
def test_what_takes_longer_is_slower_by_any_metric(
    tmp_path: Path, metrics: tuple[NamedMetric, ...]
) -> None:
    """1.2 times the time is 1/1.2 of the speed, by whichever metric it is seen."""
    analysis = analysed(make_study(tmp_path, *metrics))

    effect = analysis.effects.iloc[0]
    assert effect["placement"] == "unbound"
    assert effect["ratio"] == pytest.approx(1 / 1.2, rel=0.01)
    assert effect["low"] < effect["ratio"] < effect["high"] < 1
    assert "slower" in analysis.verdicts[0].text
    (verdict,) = analysis.study_verdicts
    assert verdict.kind == "effect"
    assert "Not binding costs train.py 16." in verdict.text


def test_what_takes_less_time_is_faster(tmp_path: Path) -> None:
    analysis = analysed(make_study(tmp_path, slow=0.8))

    assert analysis.effects["ratio"].iloc[0] == pytest.approx(1.25, rel=0.01)
    assert "faster" in analysis.verdicts[0].text
    assert "Not binding gains train.py" in analysis.study_verdicts[0].text


def test_the_medians_stay_what_was_measured(tmp_path: Path) -> None:
    cells = analysed(make_study(tmp_path)).cells.set_index("placement")

    assert cells.loc["local", "median"] == pytest.approx(10, rel=0.01)
    assert cells.loc["unbound", "median"] == pytest.approx(12, rel=0.01)
    assert set(cells["unit"]) == {"s"}


def test_the_first_metric_is_compared_with_its_own_unit(tmp_path: Path) -> None:
    cells = analysed(make_study(tmp_path, RATE, LATENCY)).cells

    assert set(cells["metric"]) == {"metric_rate"}
    assert set(cells["unit"]) == {"tok/s"}


def test_too_few_runs_for_an_interval_keep_the_direction(tmp_path: Path) -> None:
    frame = load_studies([make_study(tmp_path, repeats=2)]).frame

    table = effect_table(frame, metric="wall_s")

    assert table["ratio"].iloc[0] == pytest.approx(1 / 1.2, rel=0.01)


def test_a_metric_beside_the_headline_is_shown_as_it_is(tmp_path: Path) -> None:
    """As latency is beside throughput: its change is that of the value."""
    frame = load_studies([make_study(tmp_path, RATE)]).frame

    assert effect_table(frame, metric="wall_s")["ratio"].iloc[0] == pytest.approx(1.2, rel=0.01)
    assert set(cell_table(frame, metric="wall_s")["unit"]) == {"s"}


def test_after_a_slowdown_every_cell_is_slower_than_before(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before, after = make_study(tmp_path / "a", slow=1.0), make_study(tmp_path / "b", slow=1.5)

    comparison = compare_studies(load_studies([before]).frame, load_studies([after]).frame)

    changed = comparison.table.set_index("placement")["ratio"]
    assert changed["unbound"] == pytest.approx(1 / 1.5, rel=0.02)
    assert changed["local"] == pytest.approx(1, rel=0.02)


def test_commands_with_other_metrics_are_not_pooled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    studies = [make_study(tmp_path / "a", RATE), make_study(tmp_path / "b", LATENCY)]

    assert load_studies(studies).frame["group"].nunique() == 2
