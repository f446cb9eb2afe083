"""Sweeps whose jobs are measured as one study: -m ... interleave=true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from numa_bench.study_files import OVERRIDES, RESOLVED_JOBS
from tests.conftest import PROJECT, RUNNER, Outcome
from tests.machines import server
from tests.sweep.test_jobs import STUDY

Runner = Callable[..., Outcome]
SMALL = ("experiment=quick_test", "experiment.vit_configs=[{depth: 0}]")
SIZES = "experiment.test.batch_size=1,2,4"


def plan_sweep(runner: Runner, *overrides: str, **machine: Any) -> Any:
    """The only plan of an interleaved sweep."""
    out = runner("-m", *SMALL, "interleave=true", *overrides, **machine)
    assert out.code == 0, out.stderr
    (plan,) = out.studies
    return plan


def refuse(runner: Runner, *overrides: str) -> str:
    """Why an interleaved sweep is refused; nothing is left behind."""
    out = runner("-m", *SMALL, "interleave=true", *overrides)
    assert (out.code, out.studies) == (2, [])
    assert not Path("outputs").exists()
    return out.error


def test_every_block_has_each_cell_of_all_jobs_once_in_random_order(runner: Runner) -> None:
    plan = plan_sweep(runner, SIZES, "experiment.repeats=20")

    assert len(plan.cells) == 3
    orders = [
        tuple(run.test.batch_size for run in block)
        for block in zip(*[iter(plan.runs)] * 3, strict=True)
    ]
    assert {tuple(sorted(order)) for order in orders} == {(1, 2, 4)}
    # Of six orders; one seed fixes which.
    assert len(set(orders)) == 6
    assert plan.runs == plan_sweep(runner, SIZES, "experiment.repeats=20").runs
    other = plan_sweep(runner, SIZES, "experiment.repeats=20", "experiment.order_seed=1")
    assert plan.runs != other.runs
    assert [run.repeat for run in plan.runs] == sorted(run.repeat for run in plan.runs)


def test_runs_have_the_settings_of_their_job_and_its_overrides(runner: Runner) -> None:
    plan = plan_sweep(
        runner, "experiment.test.batch_size=1,2", "experiment.test.precision=fp32,bf16"
    )

    assert {
        (run.sweep_jobs, run.sweep_overrides): (run.test.batch_size, run.test.precision)
        for run in plan.cells
    } == {
        ((job,), (f"experiment.test.batch_size={size}", f"experiment.test.precision={kind}")): (
            size,
            kind,
        )
        for job, (size, kind) in enumerate([(1, "fp32"), (1, "bf16"), (2, "fp32"), (2, "bf16")])
    }
    assert plan.jobs[2] == ("experiment.test.batch_size=2", "experiment.test.precision=fp32")


def test_a_cell_of_several_jobs_is_measured_once(runner: Runner) -> None:
    models = "experiment.vit_configs=[{depth: 0}, {depth: 2, dim: 128}]"
    plan = plan_sweep(runner, models, "experiment.vit_configs[1].depth=3,4")

    depths = {run.vit.depth: (run.sweep_jobs, run.sweep_overrides) for run in plan.cells}
    assert depths == {
        0: ((0, 1), ()),
        3: ((0,), ("experiment.vit_configs.1.depth=3",)),
        4: ((1,), ("experiment.vit_configs.1.depth=4",)),
    }
    assert len(plan.runs) == 3 * len({run.repeat for run in plan.runs})
    assert "interleave: 1 cell is the same in several jobs; each is measured once" in plan.warnings


def test_placements_and_experiments_can_be_swept(runner: Runner) -> None:
    plan = plan_sweep(
        runner, "experiment.hardware.numa_nodes=[0],[2]", "experiment.name=both", machine=server()
    )
    assert {run.placement.numa_node for run in plan.cells} == {0, 2}

    mixed = runner(
        *("-m", "experiment=quick_test,numa_study", "experiment.name=both", "interleave=true"),
        *("experiment.repeats=3", "experiment.test.batch_size=1", "profiler=none"),
        *("experiment.time_limit=null", "experiment.monitor_interval_s=0.5"),
    )
    assert mixed.code == 0, mixed.stderr
    (plan,) = mixed.studies
    assert plan.study == "both"
    assert Counter(plan.jobs) == Counter([("experiment=quick_test",), ("experiment=numa_study",)])


def test_sweeps_that_a_file_turns_on_can_be_interleaved(runner: Runner) -> None:
    out = runner("experiment=grid_search", "interleave=true")

    assert out.code == 0, out.stderr
    (plan,) = out.studies
    assert len(plan.jobs) == 9
    assert (plan.study, plan.resume_from) == ("grid_search", None)
    assert not Path("outputs/multirun").exists()


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (
            (SIZES, "experiment.repeats=2,3"),
            "experiment.repeats=2,3: interleave=true measures all jobs in one study, which has one "
            "value of this",
        ),
        ((SIZES, "tracking.mlflow.enabled=true,false"), "tracking.mlflow.enabled="),
        ((SIZES, "profiler.kind=none,auto"), "profiler.kind=none,auto: "),
        ((SIZES, "output.root=a,b"), "output.root=a,b: "),
        ((SIZES, "isolation.exclusive=host,gpu"), "isolation.exclusive=host,gpu: "),
        ((SIZES, "hydra/launcher=joblib"), "hydra/launcher=joblib: starts a study for each job"),
        (("experiment.test.batch_size=8,8",), "interleave=true: jobs 0 ("),
        (("experiment.repeats=3",), "interleave=true: there is only one job"),
    ],
)
def test_what_jobs_of_one_study_cannot_differ_in_is_refused(
    runner: Runner, overrides: tuple[str, ...], error: str
) -> None:
    assert refuse(runner, *overrides).startswith(error)


def test_experiments_of_different_names_need_one_name(runner: Runner) -> None:
    out = runner("-m", "experiment=quick_test,numa_study", "interleave=true")

    assert out.code == 2
    assert out.error.startswith("experiment.name=quick_test,numa_study: ")
    assert out.error.endswith("; add experiment.name=NAME")


def test_some_jobs_alone_cannot_be_interleaved(runner: Runner) -> None:
    out = runner("-m", *SMALL, "interleave=true,false")

    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith("interleave=true,false: all jobs of a sweep")


def test_a_single_study_has_nothing_to_interleave(runner: Runner) -> None:
    out = runner(*SMALL, "interleave=true")

    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith("interleave=true: there is only one job")


def test_a_mistake_in_one_job_is_found_before_anything_runs(runner: Runner) -> None:
    assert "batch_size=0" in refuse(runner, "experiment.test.batch_size=1,0")


def test_a_dry_run_prints_one_study(runner: Runner) -> None:
    out = runner("-m", *SMALL, SIZES, "interleave=true", "dry_run=true")

    assert (out.code, out.studies) == (0, [])
    assert out.stdout.count("planned runs") == 1
    assert "3 runs of 3 cells" in out.stdout


def test_what_is_saved_plans_the_same_study_again(runner: Runner, tmp_path: Path) -> None:
    plan = plan_sweep(runner, SIZES, "experiment.repeats=2")
    (study,) = tmp_path.glob("outputs/quick_test/*/*")
    (study / "results.json").write_text("[]")

    assert yaml.safe_load((study / OVERRIDES).read_text()) == [
        *(*SMALL, "interleave=true", SIZES, "experiment.repeats=2")
    ]
    resumed = runner(f"resume_from={study}").studies[0]
    assert (resumed.runs, resumed.jobs) == (plan.runs, plan.jobs)
    # More repeats are put after those that were planned.
    (longer,) = runner(f"resume_from={study}", "experiment.repeats=3").studies
    assert longer.runs[:6] == plan.runs
    assert len(longer.runs) == 9

    (study / RESOLVED_JOBS).write_text("jobs")
    out = runner(f"resume_from={study}")
    assert (out.code, out.error.partition(": ")[2]) == (2, "it holds no jobs; restore it")


def test_a_study_that_is_there_already_cannot_be_interleaved(
    runner: Runner, tmp_path: Path
) -> None:
    assert runner(*SMALL).code == 0
    (study,) = tmp_path.glob("outputs/quick_test/*/*")
    (study / "results.json").write_text("[]")

    out = runner(f"resume_from={study}", "interleave=true")
    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith("interleave=true: a resumed study keeps its order")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failed_interleaved_sweep_is_finished_like_any_study(tmp_path: Path) -> None:
    path = os.pathsep.join(map(str, (PROJECT / "tests" / "sweep" / "stand_in", PROJECT)))

    def start(behaviours: str, *words: str) -> int:
        environ = {
            **os.environ,
            "PYTHONPATH": path,
            "NUMA_BENCH_LOCKS": str(tmp_path / "locks"),
            "SWEEP_BEHAVIOURS": behaviours,
        }
        argv = [sys.executable, str(RUNNER), *words]
        return subprocess.run(argv, cwd=tmp_path, env=environ, check=False).returncode

    words = ("-m", *STUDY, "experiment.test.batch_size=1,2", "experiment.repeats=3")
    assert start("good,raises", *words, "interleave=true") == 1
    (study,) = tmp_path.glob("outputs/*/*/*")

    def read(name: str) -> Any:
        return json.loads((study / name).read_text())

    records, summary = read("results.json"), read("experiment_summary.json")
    assert [record["run_id"] for record in records] == summary["run_order"]
    assert summary["jobs"] == [["experiment.test.batch_size=1"], ["experiment.test.batch_size=2"]]
    assert summary["machine"]["command"][1:] == [*words, "interleave=true"]
    for record in records:
        size = record["test_config"]["batch_size"]
        assert record["sweep_overrides"] == [f"experiment.test.batch_size={size}"]
        assert record["sweep_jobs"] == [size - 1]
        assert record["status"] == {1: "passed", 2: "failed"}[size]

    assert start("raises,good", f"resume_from={study}") == 0
    done = {record["run_id"]: record["status"] for record in read("results.json")}
    assert done == dict.fromkeys(summary["run_order"], "passed")
    assert [record["attempt"] for record in read("results.json")] == [1, 1, 1, 2, 2, 2]
