"""Verdicts in words: each kind, with size, interval and advice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.analysis.read.runs import load_runs
from numa_bench.analysis.stats.tables import effect_table
from numa_bench.analysis.stats.verdicts import judge_studies
from tests.analysis.stats.made_up import QUIET, judged, pooled, runs_of
from tests.fake_pipeline import Machine, Noise
from tests.fake_scenarios import experiment, models, numa_study, one_gpu
from tests.fake_study import Scenario, again, write_study
from tests.machines import server


def test_an_effect_has_its_size_interval_and_n(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu(), noise=QUIET))
    verdict = next(v for v in judged(runs) if v.model_text == "vit32x0")
    assert verdict.kind == "effect"
    assert verdict.text.startswith("remote is ")
    assert "% slower (95 % CI " in verdict.text
    assert verdict.text.endswith("n = 5 x 5)")
    assert verdict.change is not None
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < verdict.change < verdict.high < 0
    assert json.loads(json.dumps(verdict.to_dict()))["placement"] == "remote"


def test_intervals_within_the_effect_of_interest_are_called_equal(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu(), effect=0.0, noise=QUIET))
    verdicts = judged(runs)
    assert {v.kind for v in verdicts} == {"no_difference"}
    assert all("remote: equal within 2 % (95 % CI -" in v.text for v in verdicts)
    (study,) = judge_studies(verdicts, runs, pooled(runs))
    assert study.kind == "no_difference"
    assert study.text.startswith("No difference between placements: equal within 2 % (1 GPU x 5")
    assert study.claims == 0
    smaller = judged(runs, target=0.001)
    assert {v.kind for v in smaller} == {"not_enough"}


def test_noisy_runs_give_the_number_of_repeats_needed(tmp_path: Path) -> None:
    noisy = Noise(sd=0.05, drift=0.0, outliers=0.0)
    runs = runs_of(tmp_path, numa_study(one_gpu(), effect=0.0, noise=noisy))
    verdicts = judged(runs)
    assert {v.kind for v in verdicts} == {"not_enough"}
    needed = [v.repeats_needed for v in verdicts]
    assert all(n is not None and n > 20 for n in needed)
    assert f"repeat with experiment.repeats={needed[0]} for 2 %" in verdicts[0].text
    finer = [v.repeats_needed or 0 for v in judged(runs, target=0.01)]
    assert min(finer) > max(n or 0 for n in needed)
    (study,) = judge_studies(verdicts, runs, pooled(runs))
    # Pooled over models, fewer runs are needed.
    assert "repeat with experiment.repeats=" in study.text


@pytest.mark.parametrize(("repeats", "reason"), [(1, "from one run"), (2, "from 2 runs")])
def test_too_few_repeats_give_no_verdict(tmp_path: Path, repeats: int, reason: str) -> None:
    scenario = numa_study(one_gpu())
    study = replace(scenario.experiment, repeats=repeats)
    runs = runs_of(tmp_path, replace(scenario, experiment=study))
    verdicts = judged(runs)
    assert {v.kind for v in verdicts} == {"no_verdict"}
    assert all(reason in v.text and "experiment.repeats=5" in v.text for v in verdicts)
    assert judge_studies(verdicts, runs, pooled(runs))[0].kind == "no_verdict"


def test_without_local_or_without_another_placement_there_is_no_verdict(tmp_path: Path) -> None:
    for words, reason in (("remote", "no local placement"), ("local", "only one placement")):
        study = experiment(words, models((32, 0, 0)), numa_nodes=words)
        runs = runs_of(tmp_path, Scenario(Machine(one_gpu()), study))
        assert reason in judged(runs)[0].text


def test_memory_apart_from_the_cpus_is_named_in_words(tmp_path: Path) -> None:
    study = experiment("apart", models((32, 0, 0)), numa_nodes="local", memory_nodes="all")
    (verdict,) = judged(runs_of(tmp_path, Scenario(Machine(one_gpu()), study)))
    assert verdict.placement == "local/remote"
    assert "local/remote (memory on the other socket, CPUs local)" in verdict.text


def test_affinities_are_compared_to_the_whole_local_node(tmp_path: Path) -> None:
    study = experiment("cpus", models((32, 0, 0)), cpu_affinity=["node", "core-complex"])
    runs = runs_of(tmp_path, Scenario(Machine(replace(server(), gpus=server().gpus[:1])), study))
    assert [v.placement for v in judged(runs)] == [
        "local (core-complex)",
        "remote",
        "remote (core-complex)",
    ]
    effects = effect_table(runs)
    bases = runs.drop_duplicates("cell").set_index("cell")["placement"]
    assert set(effects["base_cell"].map(bases)) == {"local"}


def test_one_affinity_alone_is_its_own_base(tmp_path: Path) -> None:
    study = experiment("cpus", models((32, 0, 0)), cpu_affinity="exclusive")
    runs = runs_of(tmp_path, Scenario(Machine(replace(server(), gpus=server().gpus[:1])), study))
    assert [v.placement for v in judged(runs)] == ["remote (exclusive)"]


def test_local_without_a_valid_run_gives_no_verdict(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, numa_study(one_gpu()))
    runs.loc[runs["placement"] == "local", "in_statistics"] = False
    verdicts = judged(runs)
    assert {v.kind for v in verdicts} == {"no_verdict"}


@pytest.mark.slow
def test_an_answer_for_each_group(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu(), noise=QUIET), raw=0)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first, host="other"))
    runs = load_runs(tmp_path)
    answers = judge_studies(judged(runs), runs, pooled(runs))
    assert len(answers) == 2
    assert all(a.text.startswith("Crossing the socket (distance 21) costs the") for a in answers)
    assert all("single comparisons with local: 3 of 6 differ" in a.details for a in answers)
