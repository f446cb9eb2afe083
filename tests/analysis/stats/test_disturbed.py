"""Effects that a disturbance explains as well as placement does are not claimed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.stats.disturbed import Pairs, explain_effect, measure_pairs
from numa_bench.analysis.stats.tables import effect_table
from numa_bench.analysis.stats.verdicts import judge_cells, judge_studies
from numa_bench.machine.model import Topology
from tests.analysis.stats.made_up import QUIET, pooled, runs_of
from tests.analysis.stats.test_direction import analysed, make_study
from tests.fake_pipeline import Machine
from tests.fake_scenarios import experiment, models, one_gpu, server8
from tests.fake_study import Scenario

FOREIGN = "foreign_cpu: other processes used {:.1%} of the measured CPUs"
STEAL = "steal: the hypervisor took {:.1%} of the measured CPUs"
#: Sensor, warning and the reading from which the runner marks a run.
CPU, HYPERVISOR = ("cpu_foreign", FOREIGN, 0.02), ("cpu_steal", STEAL, 0.01)
Kind = tuple[str, str, float]


def measure_quiet(tmp_path: Path, topology: Topology) -> pd.DataFrame:
    """Runs of a copy-bound and a compute-bound model on an undisturbed machine."""
    study = experiment("numa_study", models((32, 0, 512), (32, 6, 512)))
    return runs_of(tmp_path, Scenario(Machine(topology, 0.2), study, noise=QUIET))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return measure_quiet(tmp_path_factory.mktemp("quiet"), one_gpu())


@pytest.fixture(scope="module")
def claims(quiet: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Single and pooled effects of the quiet runs, some of which are claimed."""
    effects, contrasts = effect_table(quiet), pooled(quiet)
    assert effects["claimed"].any()
    assert contrasts["claimed"].any()
    return effects, contrasts


def disturb(runs: pd.DataFrame, shares: Mapping[str, float], kind: Kind = CPU) -> pd.DataFrame:
    """Runs whose sensor read these shares, by placement, with the mark where they are large."""
    sensor, text, limit = kind
    reading = runs["placement"].map(shares).astype(float)
    warnings = [[text.format(r)] if r > limit else [] for r in reading]
    return runs.assign(
        **{f"monitor_{sensor}_median": reading}, warnings=pd.Series(warnings, runs.index)
    )


def disturb_study(directory: Path, shares: Mapping[str, list[float]]) -> Path:
    """The same in a study's records; one share for each repeat."""
    file = directory / "results.json"
    records = json.loads(file.read_text())
    for record in records:
        share = shares[record["placement"]][record["repeat"]]
        record["monitor"] = {"cpu_foreign": {"min": 0.0, "median": share, "max": 1.0}}
        record["warnings"] = [FOREIGN.format(share)] if share > 0.02 else []
    file.write_text(json.dumps(records))
    return directory


@pytest.mark.slow
def test_a_local_side_beside_other_programs_is_no_effect_of_placement(tmp_path: Path) -> None:
    """Three runs each, all marked, local beside much more: "+45.7 %" was claimed of it."""
    study = make_study(tmp_path / "study", slow=1 / 1.457, repeats=3)
    disturb_study(study, {"local": [0.4, 0.45, 0.5], "unbound": [0.03, 0.09, 0.15]})

    analysis = analysed(study)

    cause = (
        "local ran beside 45 % foreign CPU, unbound beside 9 %: the difference of 45.7 % cannot be "
        "attributed to placement; repeat the study on a quieter machine"
    )
    (study_verdict,) = analysis.study_verdicts
    assert study_verdict.kind == "no_verdict"
    assert study_verdict.text == f"No verdict: {cause}."
    assert study_verdict.claims == 0
    (single,) = analysis.verdicts
    assert single.kind == "no_verdict"
    assert single.change == pytest.approx(0.457, abs=0.01)
    assert {a.kind for a in analysis.advice} <= {"nothing_to_bind", "not_enough"}
    page = write_report(analysis, tmp_path / "page").page.read_text()
    assert page.count(cause) >= 2  # verdict and table


def test_the_same_effect_without_a_disturbance_is_claimed(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", slow=1 / 1.457, repeats=3)
    disturb_study(study, {"local": [0.01] * 3, "unbound": [0.0] * 3})

    (verdict,) = analysed(study).study_verdicts

    assert verdict.kind == "effect"
    assert "Not binding gains" in verdict.text
    assert "45.7 %" in verdict.text


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ({"local": 0.45, "remote": 0.45}, "both sides alike"),
        (
            {"local": 0.30, "remote": 0.03},
            "the faster side had more: it hides a part of the effect",
        ),
        ({"local": 0.00, "remote": 0.05}, "5 % of the CPUs do not explain 20 %"),
        ({"local": 0.00, "remote": 0.019}, "no run is marked"),
        ({"local": np.nan, "remote": 0.45}, "one side is not known"),
    ],
)
def test_effects_that_a_disturbance_does_not_explain_are_claimed(
    quiet: pd.DataFrame,
    claims: tuple[pd.DataFrame, pd.DataFrame],
    shares: Mapping[str, float],
    why: str,
) -> None:
    runs = disturb(quiet, shares)

    effects, contrasts = effect_table(runs), pooled(runs)

    pd.testing.assert_frame_equal(effects.drop(columns="marks"), claims[0].drop(columns="marks"))
    pd.testing.assert_frame_equal(contrasts, claims[1], obj=why)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (CPU, "remote ran beside 30 % foreign CPU, local beside 3 %: the difference of"),
        (
            HYPERVISOR,
            "the hypervisor took 30 % of the CPU time of remote, 3 % of local's: the difference",
        ),
    ],
)
def test_single_and_pooled_effects_and_the_verdict_are_held_back(
    quiet: pd.DataFrame, kind: Kind, cause: str
) -> None:
    runs = disturb(quiet, {"local": 0.03, "remote": 0.3}, kind)

    effects, contrasts = effect_table(runs), pooled(runs)
    verdicts = judge_cells(effects, runs)
    (study,) = judge_studies(verdicts, runs, contrasts)

    held = contrasts[contrasts["held_back"] != ""]
    assert not effects["claimed"].any()
    assert not contrasts["claimed"].any()
    assert held["held_back"].str.startswith(cause).all()
    assert not held["equal"].any()
    assert held["detectable"].isna().all()
    assert "effect" not in {v.kind for v in verdicts}
    assert study.kind == "no_verdict"
    assert study.text.startswith(f"No verdict: {cause}")


def test_one_disturbed_gpu_of_eight_leaves_the_pooled_effect(tmp_path: Path) -> None:
    quiet = measure_quiet(tmp_path, server8())
    alone = disturb(quiet, {"remote": 0.4})
    gpu = alone["gpu_id"] == 3
    runs = quiet.assign(
        monitor_cpu_foreign_median=alone["monitor_cpu_foreign_median"].where(gpu, 0.01).fillna(0.0),
        warnings=alone["warnings"].where(gpu, quiet["warnings"]),
    )

    contrasts = pooled(runs)

    whole = contrasts[(contrasts["level"] == "bound") & (contrasts["bound"] == "transfer")]
    remote = whole[whole["placement"] == "remote"]
    assert remote["claimed"].all()
    units = contrasts[(contrasts["level"] == "unit") & (contrasts["held_back"] != "")]
    assert set(units["unit_text"]) == {units["unit_text"].iloc[0]}
    assert "3" in units["unit_text"].iloc[0]


def test_a_longer_latency_of_the_disturbed_side_is_held_back(quiet: pd.DataFrame) -> None:
    latency = effect_table(quiet, metric="latency_p95_ms")
    longer = disturb(quiet, {"local": 0.0, "remote": 0.5})
    hidden = disturb(quiet, {"local": 0.5, "remote": 0.0})
    assert latency["claimed"].any()

    assert not effect_table(longer, metric="latency_p95_ms")["claimed"].any()
    assert effect_table(hidden, metric="latency_p95_ms")["claimed"].equals(latency["claimed"])


def pairs_of(warning: str, column: str, cell: float, base: float) -> Pairs:
    runs = pd.DataFrame({"cell": ["a", "b"], column: [cell, base], "warnings": [[warning], []]})
    return measure_pairs(runs, ["a"], ["b"])


@pytest.mark.parametrize(
    ("warning", "column", "cell", "base", "words"),
    [
        ("foreign_gpu: 1", "monitor_foreign_processes_median", 1.0, 0.0,
         "remote ran beside 1.0 other processes on the GPU, local beside 0.0"),
        ("throttled: heat", "monitor_sm_mhz_median", 1200.0, 1700.0,
         "the GPU ran at 1200 MHz with remote, at 1700 MHz with local"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_gpu_counts_too(
    warning: str, column: str, cell: float, base: float, words: str
) -> None:
    pairs = pairs_of(warning, column, cell, base)
    names = ("remote", "local")

    assert explain_effect(pairs, np.array([0]), 0.7, names).startswith(words)
    assert explain_effect(pairs, np.array([0]), 1.3, names) == ""


@pytest.mark.parametrize(("foreign", "held"), [(0.09, False), (0.12, True)])
def test_half_of_an_effect_must_be_explained(foreign: float, held: bool) -> None:
    pairs = pairs_of("foreign_cpu: x", "monitor_cpu_foreign_median", foreign, 0.0)

    assert bool(explain_effect(pairs, np.array([0]), 0.8, ("remote", "local"))) == held
