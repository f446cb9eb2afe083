"""Resuming: numa-bench resume, resume_from=<sweep>, and what a resume's dry run prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from numa_bench.invocation import quote_value
from numa_bench.records import Execution, Status, make_record
from numa_bench.study_files import MULTIRUN, SWEEP_SUMMARY
from numa_bench.study_search import find_sweep
from tests.conftest import Outcome

Command = Callable[..., Outcome]
Runner = Callable[..., Outcome]
#: One model, so that a study of the CPU of one node has a run per repeat.
SMALL = ("experiment=quick_test", "experiment.vit_configs=[{depth: 0}]")


def store(study: Path, out: Outcome, statuses: Sequence[Status], job: int = 0) -> None:
    """Put records of the first runs of a noted plan, and its order, into the study's directory."""
    plan = out.studies[job]
    records = [
        make_record(run, None, Execution(status, 0, None, "", 1.0, 1, "o", "e"), "host")
        for run, status in zip(plan.runs, statuses, strict=False)
    ]
    (study / "results.json").write_text(json.dumps(records))
    summary = {"run_order": [run.run_id for run in plan.runs]}
    (study / "experiment_summary.json").write_text(json.dumps(summary))


@pytest.fixture
def study(runner: Runner, tmp_path: Path) -> Path:
    """A study of three runs: one passed, one failed, one is missing."""
    out = runner(*SMALL, "experiment.repeats=3")
    (directory,) = tmp_path.glob("outputs/quick_test/*/*")
    store(directory, out, [Status.PASSED, Status.FAILED])
    return directory.relative_to(tmp_path)


@pytest.fixture
def sweep(runner: Runner, tmp_path: Path) -> Path:
    """A sweep of four jobs with a run each: passed, failed, killed early, never started."""
    out = runner("-m", *SMALL, "experiment.test.batch_size=1,2,3,4")
    (directory,) = tmp_path.glob("outputs/multirun/quick_test/*")
    for job, status in enumerate([Status.PASSED, Status.FAILED]):
        store(directory / str(job), out, [status], job)
    (directory / "2" / ".hydra" / "config_resolved.yaml").unlink()
    for path in sorted((directory / "3").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (directory / "3").rmdir()
    return directory.relative_to(tmp_path)


def files_below(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- a study


def test_a_dry_run_prints_what_is_left(runner: Runner, study: Path) -> None:
    before = files_below(study)

    out = runner(f"resume_from={study}", "dry_run=true")

    assert out.code == 0
    assert "runs left" in out.stdout.splitlines()[0]
    assert re.search(r"│ +r1, r2 │|│ +r0, r\d │", out.stdout)
    line = next(line for line in out.stdout.splitlines() if "Nothing was run" in line)
    assert line.startswith("2 of 3 runs left, about ")
    assert line.endswith("; 1 passed. Run again: 1 failed. Nothing was run.")
    assert files_below(study) == before


def test_a_dry_run_of_a_finished_study_says_so(runner: Runner, study: Path, tmp_path: Path) -> None:
    out = runner(f"resume_from={study}")
    store(tmp_path / study, out, [Status.PASSED, Status.WAIVED, Status.PASSED])

    out = runner(f"resume_from={study}", "dry_run=true")

    assert out.stdout == "nothing left: 2 passed, 1 waived of 3 runs. Nothing was run.\n"


def test_the_check_of_a_resumed_study_counts_what_is_left(command: Command, study: Path) -> None:
    out = command("check", f"resume_from={study}")

    assert out.stdout.startswith("quick_test: 2 of 3 runs left, about ")


def test_a_run_with_several_records_is_named_and_counts_once(
    command: Command, study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = json.loads((study / "results.json").read_text())
    done = records[0]
    first = {**done, "status": "failed", "success": False}
    (study / "results.json").write_text(json.dumps([first, *records, records[-1]]))
    before = command("resume", str(study)).stdout
    named = [record.getMessage() for record in caplog.records]

    assert f"has several records of {done['run_id']}, {records[-1]['run_id']};" in named[0]
    assert len(named) == 1
    (study / "results.json").write_text(json.dumps(records))
    assert command("resume", str(study)).stdout == before


def test_a_resumed_study_takes_another_tracker_or_profiler(runner: Runner, study: Path) -> None:
    (plan,) = runner(f"resume_from={study}", "tracking=none", "profiler=torch").studies

    assert not plan.tracking.mlflow.enabled
    assert plan.profiler.kind == "torch"


def test_a_resumed_study_keeps_its_name(runner: Runner, study: Path) -> None:
    before = files_below(study)

    out = runner(f"resume_from={study}", "experiment.name=foo")

    assert (out.code, out.studies) == (2, [])
    assert out.error == "experiment.name=foo: a resumed study keeps its name, quick_test"
    assert {p: b for p, b in files_below(study).items() if p.name != "experiment.log"} == {
        p: b for p, b in before.items() if p.name != "experiment.log"
    }
    assert runner(f"resume_from={study}", "experiment.name=quick_test").code == 0


# --- numa-bench resume


def test_the_command_is_printed(command: Command, study: Path) -> None:
    out = command("resume", str(study))

    assert out.stdout == f"numa-bench run resume_from={study}\n"
    assert (out.code, out.stderr) == (0, "2 of 3 runs left\n")


def test_the_command_may_have_a_launcher_and_other_settings(command: Command, study: Path) -> None:
    new = "experiment.repeats=5 'experiment.vit_configs[0].name=a b'"

    out = command("resume", str(study), "--slurm", "--new-overrides", new)

    assert shlex.split(out.stdout)[2:] == [
        f"resume_from={study}",
        "-m",
        "hydra/launcher=slurm",
        "experiment.repeats=5",
        "experiment.vit_configs.0.name=a b",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "it's",
        "back\\slash é",
        "${nope}",
        "a${b",
        "a,b=[1]",
        "ends\\",
        " '\"$(x)` ",
        "two\nlines",
    ],
)
def test_the_printed_command_resumes_the_study_wherever_it_is(
    command: Command, runner: Runner, study: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / study).rename(tmp_path / name)
    words = shlex.split(command("resume", name).stdout)

    for launcher in ((), ("-m",)):
        out = runner(*words[2:], *launcher)

        assert (out.code, out.stderr) == (0, "")
        (plan,) = out.studies
        assert plan.resume_from is not None
        assert (tmp_path / plan.resume_from).samefile(tmp_path / name)
        assert len(plan.runs) == 3
    # Hydra's snapshot and the log are in the study.
    assert len(list((tmp_path / name / ".hydra").glob("resumed_*/overrides.yaml"))) >= 1
    assert (tmp_path / name / "experiment.log").is_file()


def test_a_finished_study_has_nothing_left(
    command: Command, runner: Runner, study: Path, tmp_path: Path
) -> None:
    out = runner(f"resume_from={study}")
    store(tmp_path / study, out, [Status.PASSED] * 3)

    out = command("resume", str(study))

    assert (out.code, out.stdout) == (0, "")
    assert out.stderr == "nothing left: 3 of 3 runs passed or were waived\n"
    more = command("resume", str(study), "--new-overrides", "experiment.repeats=5")
    assert more.stdout.endswith(" experiment.repeats=5\n")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_directory_without_a_study_is_refused(
    command: Command, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()

    out = command("resume", name)

    assert (out.code, out.stdout) == (2, "")
    assert out.error.startswith(f"DIR={name}: ")


def test_overrides_that_no_shell_can_split_are_refused(command: Command, study: Path) -> None:
    out = command("resume", str(study), "--new-overrides", "a='b")

    assert out.code == 2
    assert out.error.startswith("--new-overrides=a='b: ")


def test_the_command_can_be_run(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    typed: list[list[str]] = []

    def run() -> int:
        typed.append(sys.argv[1:])
        return 1

    monkeypatch.setattr("numa_bench.commands.run.main", run)

    out = command("resume", str(study), "--run", "--new-overrides", "tracking=none")

    assert (out.code, out.stdout) == (1, "")
    assert typed == [[f"resume_from={study}", "tracking=none"]]


# --- a sweep


@pytest.mark.slow
def test_a_sweep_is_finished_job_by_job(runner: Runner, sweep: Path, tmp_path: Path) -> None:
    multirun = (tmp_path / sweep / MULTIRUN).read_bytes()

    out = runner(f"resume_from={sweep}")

    assert (out.code, out.stderr) == (0, "")
    assert [Path(str(plan.resume_from)).name for plan in out.studies] == ["1", "2", "3"]
    assert [plan.runs[0].test.batch_size for plan in out.studies] == [2, 3, 4]
    assert (tmp_path / sweep / MULTIRUN).read_bytes() == multirun
    assert sorted(path.name for path in sweep.iterdir()) == [
        "0",
        "1",
        "2",
        "3",
        MULTIRUN,
        SWEEP_SUMMARY,
    ]
    assert [path.name for path in Path("outputs/multirun/quick_test").iterdir()] == [sweep.name]


@pytest.mark.slow
def test_a_sweep_with_one_job_left_and_one_that_is_refused(
    runner: Runner, sweep: Path, tmp_path: Path
) -> None:
    first = runner(f"resume_from={sweep}")
    for job, plan in enumerate(first.studies[:2], 1):
        done = Outcome(0, "", "", [plan])
        store(tmp_path / sweep / str(job), done, [Status.PASSED])

    (plan,) = runner(f"resume_from={sweep}").studies
    assert Path(str(plan.resume_from)).name == "3"

    out = runner(f"resume_from={sweep}", "experiment.repeats=0")
    assert (out.code, out.studies) == (2, [])
    assert out.error == "experiment.repeats=0: must be at least 1"  # of all jobs


@pytest.mark.slow
def test_the_printed_command_finishes_a_sweep_wherever_it_is(
    command: Command, runner: Runner, sweep: Path, tmp_path: Path
) -> None:
    moved = Path("it's é,=${x}\\")
    (tmp_path / sweep).rename(tmp_path / moved)

    out = runner(*shlex.split(command("resume", str(moved)).stdout)[2:])

    assert (out.code, out.stderr) == (0, "")
    assert [plan.runs[0].test.batch_size for plan in out.studies] == [2, 3, 4]
    resumed = [Path(str(plan.resume_from)) for plan in out.studies]
    assert all(path.samefile(moved / str(n)) for n, path in enumerate(resumed, 1))


@pytest.mark.slow
def test_an_interrupted_sweep_is_finished_by_the_printed_command(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numa_bench.runner.study as study_room

    start, started = study_room.run_study, []

    def interrupt(*arguments: object, **options: object) -> None:
        started.append(arguments)
        if len(started) == 2:
            raise KeyboardInterrupt
        start(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("numa_bench.runner.study.run_study", interrupt)
    root = "it's, \\é=["
    out = runner(
        "-m", *SMALL, "experiment.test.batch_size=1,2,3", f"output.root={quote_value(root)}"
    )

    assert out.code == 130
    line = next(
        line for line in out.stdout.splitlines() if line.startswith("interrupted: 3 of 3 jobs")
    )
    store(next(tmp_path.rglob("0/.hydra")).parent, out, [Status.PASSED])
    again = runner(*shlex.split(line.partition("left: ")[2])[2:])

    assert (again.code, again.stderr) == (0, "")
    assert [plan.runs[0].test.batch_size for plan in again.studies] == [2, 3]


@pytest.mark.slow
def test_a_dry_run_of_a_sweep_prints_what_is_left_of_each_job(runner: Runner, sweep: Path) -> None:
    before = files_below(sweep)

    out = runner(f"resume_from={sweep}", "dry_run=true")

    assert out.code == 0
    assert out.stdout.count("1 of 1 runs left") == 3
    assert files_below(sweep) == before


@pytest.mark.slow
def test_the_state_of_a_sweep(
    command: Command, runner: Runner, sweep: Path, tmp_path: Path
) -> None:
    assert command("resume", str(sweep)).stderr == "3 of 4 jobs left\n"
    assert "3 jobs, 3 runs" in command("check", f"resume_from={sweep}").stdout
    for job, plan in enumerate(runner(f"resume_from={sweep}").studies, 1):
        store(tmp_path / sweep / str(job), Outcome(0, "", "", [plan]), [Status.PASSED])

    out = command("resume", str(sweep))

    assert (out.code, out.stdout) == (0, "")
    assert out.stderr == f"nothing left: all 4 jobs of {sweep} are finished\n"
    again = runner(f"resume_from={sweep}")
    assert (again.code, again.studies) == (0, [])
    assert again.stdout == f"nothing left: all jobs of {sweep} are finished\n"


@pytest.mark.slow
def test_a_sweep_over_experiments_is_found_in_its_folders(runner: Runner, tmp_path: Path) -> None:
    """Hydra writes multirun.yaml into one of them only."""
    out = runner("-m", "experiment=quick_test,compile_study")
    (folder,) = [path.parent for path in tmp_path.glob(f"outputs/multirun/*/*/{MULTIRUN}")]
    assert len(out.studies) == 2

    again = runner(f"resume_from={folder}")

    directories = [Path(str(plan.resume_from)) for plan in again.studies]
    assert [path.parent.parent.name for path in directories] == ["quick_test", "compile_study"]
    assert [path.name for path in directories] == ["0", "1"]
    assert find_sweep(directories[1]) == folder
    # The folder of any of its experiments is the sweep's.
    beside = runner(f"resume_from={directories[0].parent}")
    assert [plan.study for plan in beside.studies] == ["quick_test", "compile_study"]


def test_a_sweep_that_the_runner_did_not_start_is_refused(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / MULTIRUN).write_text("a: 1\n")

    out = runner("resume_from=sweep")

    assert out.code == 2
    assert out.error.startswith("sweep cannot be resumed: multirun.yaml is not that of a sweep")


def test_a_job_that_a_sweep_does_not_have_is_refused(runner: Runner, sweep: Path) -> None:
    out = runner(f"resume_from={sweep}/9")

    assert out.code == 2
    assert out.error.endswith("has no such job")
    assert not (sweep / "9").exists()
