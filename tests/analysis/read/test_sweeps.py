"""Sweeps whose jobs were measured one after another are marked wherever their axis is compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.report.files import build_verdict, write_report
from numa_bench.analysis.report.terminal import print_analysis
from numa_bench.analysis.stats.pooled.partitions import join_partitions, load_partitions
from numa_bench.analysis.study_analysis import Analysis, analyse_study
from numa_bench.config.schemas.workload import TestConfig
from numa_bench.jsonio import read_json, write_json
from numa_bench.study_files import MULTIRUN, OVERRIDES
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import Scenario, write_study

START = datetime(2026, 1, 31, 14, 0, tzinfo=timezone.utc)
SIZES = (8, 16, 32)


def of_batch_size(size: int) -> Scenario:
    """A study of one job: every placement at one batch size."""
    job = scenario("numa_study", one_gpu(), models((32, 6, 512)), 3)
    test = TestConfig(num_samples=20_000, batch_size=size, precision="fp32")
    return replace(job, experiment=replace(job.experiment, test=test))


def write_sweep(
    sweep: Path, jobs: dict[str, Scenario], gap: timedelta = timedelta(hours=1)
) -> Path:
    """A sweep with a job for each override, each started `gap` after the one before."""
    sweep.mkdir(parents=True)
    (sweep / MULTIRUN).write_text("hydra: {}\n")
    for number, (word, job) in enumerate(jobs.items()):
        study = sweep / str(number)
        write_study(sweep, replace(job, started=START + number * gap), study)
        (study / OVERRIDES).parent.mkdir()
        (study / OVERRIDES).write_text(f"- experiment.repeats=3\n- {word}\n")
    return sweep


def analyse(path: Path) -> Analysis:
    return analyse_study(
        "numa_study",
        load_studies(path),
        profiles=pd.DataFrame(),
        target=0.02,
        seed=0,
        created="2026-02-01",
        command="analyze",
    )


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    jobs = {f"experiment.test.batch_size={size}": of_batch_size(size) for size in SIZES}
    return write_sweep(tmp_path / "multirun" / "numa_study" / "now", jobs)


def test_jobs_one_after_another_are_confounded_with_time(sweep: Path) -> None:
    analysis = analyse(sweep)

    (found,) = analysis.sequential
    assert found.axes == ("experiment.test.batch_size",)
    assert found.studies == tuple(str(sweep / str(n)) for n in range(3))
    (verdict,) = build_verdict(analysis)["confounded"]
    assert verdict == (
        f"Confounded with time: the 3 jobs of {sweep} were measured one after another, so "
        "differences between values of experiment.test.batch_size may be drift. To measure them in "
        "one random order, repeat the sweep with interleave=true."
    )


def test_a_fleet_that_is_read_host_by_host_has_the_same_mark(sweep: Path) -> None:
    parts = load_partitions([sorted(sweep.glob("*/results.json"))], 0.02)

    assert list(join_partitions(parts, 0.02).confounded) == [
        found.warning for found in analyse(sweep).sequential
    ]


def test_terminal_page_and_block_say_so(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analysis, directory = analyse(sweep), sweep.parent.parent.parent / "analysis"
    directory.mkdir()

    report = write_report(analysis, directory)
    print_analysis(analysis, directory)

    assert capsys.readouterr().out.startswith("Confounded with time: the 3 jobs of ")
    page = (directory / "report.html").read_text()
    assert page.count("Confounded with time: the 3 jobs of") == 1
    # Below the title of the question that compares batch sizes, and of no comparison within jobs.
    below = page[page.index("Which batch size?") :]
    assert 0 < below.index("experiment.test.batch_size and time are confounded here") < 500
    assert "Confounded with time: the 3 jobs of" in report.block.read_text()
    assert all("not interleaved" not in line for v in analysis.study_verdicts for line in v.details)


def test_jobs_that_were_measured_in_turn_are_not_confounded(sweep: Path) -> None:
    for number in range(3):
        path = sweep / str(number) / "results.json"
        records = read_json(path)
        for i, record in enumerate(records):
            record["start_time"] = (START + timedelta(minutes=3 * i + number)).isoformat()
        write_json(path, records)

    assert analyse(sweep).sequential == ()


def test_one_study_of_all_jobs_has_no_mark(tmp_path: Path) -> None:
    own = [vit for size in SIZES for vit in models((32, 6, 512), batch_size=size)]
    study = write_study(tmp_path, scenario("numa_study", one_gpu(), own, 3))

    analysis = analyse(study)

    assert (analysis.sequential, build_verdict(analysis)["confounded"]) == ((), [])
    assert set(analysis.questions["batch"]["batch_size"]) == set(SIZES)


def test_jobs_on_several_hosts_are_compared_to_none_of_another(tmp_path: Path) -> None:
    jobs = {
        f"experiment.test.batch_size={size}": replace(of_batch_size(size), host=f"gpu-{size}")
        for size in SIZES
    }
    assert analyse(write_sweep(tmp_path / "sweep", jobs)).sequential == ()


def test_placements_of_several_jobs_are_marked_in_verdict_and_comparisons(tmp_path: Path) -> None:
    jobs = {
        f"experiment.hardware.numa_nodes=[{node}]": scenario(
            "numa_study", one_gpu(), models((32, 6, 512)), 4, numa_nodes=[node]
        )
        for node in (0, 2)
    }
    analysis = analyse(write_sweep(tmp_path / "sweep", jobs))

    (found,) = analysis.sequential
    assert found.axes == ("experiment.hardware.numa_nodes",)
    (verdict,) = analysis.study_verdicts
    assert verdict.details[-1].startswith("1 of 1 comparisons with local are not interleaved")
    assert "drift may look like placement" in analysis.effects["note"].iloc[0]
