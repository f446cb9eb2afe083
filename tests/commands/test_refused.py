"""A command line that is refused leaves no directory of a study or a sweep behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from numa_bench.errors import MachineError
from numa_bench.records import DeviceSpec
from tests.conftest import Outcome
from tests.machines import server

Runner = Callable[..., Outcome]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("experiment.repeats=0",),
        ("experiment.hardware.numa_nodes=7",),
        ("experiment.repeats=0", "dry_run=true"),
        ("experiment.repeats=0", "debug=true"),
        ("experiment.repeats=0", "hydra.run.dir=a/b"),
        ("-m", "experiment.repeats=0,-1"),  # every job refuses its settings
        ("-m", "experiment.repeats=0,x"),  # Hydra refuses to compose a job
        ("-m", "experiment.repeats=0", "hydra.sweep.dir=a/b"),
        ("-m", "experiment.repeats=0", "dry_run=true"),
    ],
    ids=" ".join,
)
def test_a_refused_command_line_leaves_no_directory(
    runner: Runner, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "mine").mkdir()
    assert runner(*arguments).code == 2
    assert runner(*arguments, "output.root=mine").code == 2
    assert runner(*arguments, "output.root=mine/deeper").code == 2

    # A directory that was there before is the user's.
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_directory_that_hydra_cannot_name_is_refused(runner: Runner, tmp_path: Path) -> None:
    out = runner(r"output.root='a\${x}'")

    assert out.code == 2
    assert out.error.startswith("output.root=a${x}: a new study's path cannot contain ${;")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_cannot_run_it_leaves_no_directory(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise MachineError("numactl is not installed")

    monkeypatch.setattr("numa_bench.commands.run.check_binding", refuse)

    assert runner("experiment=quick_test").error == "numactl is not installed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_jobs_that_could_run_keep_their_directories(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a GPU fails is only seen when its job starts."""

    def refuse(devices: Iterable[DeviceSpec]) -> None:
        if any(device.gpu_id == 1 for device in devices):
            raise MachineError("GPU 1 cannot be used")

    monkeypatch.setattr("numa_bench.commands.run.check_gpus", refuse)

    out = runner("-m", "experiment.hardware.gpu_ids=[0],[1],[2]", machine=server())

    assert (out.code, out.error) == (
        2,
        "job 1 (experiment.hardware.gpu_ids=[1]): GPU 1 cannot be used",
    )
    assert len(out.studies) == 2
    (sweep,) = tmp_path.glob("outputs/multirun/numa_study/*")
    assert sorted(path.name for path in sweep.iterdir()) == [
        "0",
        "2",
        "multirun.yaml",
        "sweep_summary.json",
    ]


def test_a_sweep_with_a_wrong_value_starts_no_job(runner: Runner, tmp_path: Path) -> None:
    out = runner("-m", "experiment=quick_test", "experiment.test.batch_size=1,-2,3,-4", "+typo=1")

    assert (out.code, out.studies) == (2, [])
    jobs = {n: f"job {n} (experiment.test.batch_size={value})" for n, value in ((1, -2), (3, -4))}
    unknown, *wrong = out.stderr.splitlines()
    assert unknown.startswith("error: typo: unknown key")  # of all jobs, so without their names
    assert wrong == [
        f"error: {jobs[1]}: experiment.test.batch_size=-2: must be at least 1",
        f"error: {jobs[3]}: experiment.test.batch_size=-4: must be at least 1",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_without_a_job_is_refused(runner: Runner, tmp_path: Path) -> None:
    out = runner("-m", "experiment.repeats=1,2", "experiment.test.batch_size=range(3,3)")

    assert out.code == 2
    assert out.error == (
        "experiment.test.batch_size=range(3,3): has no values, so that the sweep has no jobs"
    )
    assert list(tmp_path.iterdir()) == []


def test_slurm_jobs_are_checked_without_this_machine(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run elsewhere: a node that is missing here is no mistake, a wrong value is one."""
    monkeypatch.setattr("numa_bench.commands.checks.sweep._SLURM", ".BasicLauncher")
    nodes = "experiment.hardware.numa_nodes=0,99"

    out = runner("-m", "experiment=quick_test", nodes)
    assert "experiment.hardware.numa_nodes=99: no such node" in out.error
    assert len(out.studies) == 1

    assert runner("-m", "experiment=quick_test", nodes, "experiment.repeats=0").studies == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["analysis", "debug", "dry_run", "multirun"])
def test_a_study_cannot_have_the_name_of_another_folder(
    runner: Runner, tmp_path: Path, name: str
) -> None:
    for given in ((), ("hydra.run.dir=here",), ("-m",), ("debug=true",)):
        out = runner("experiment=quick_test", f"experiment.name={name}", *given)
        assert out.code == 2
        assert out.error.startswith(f"experiment.name={name}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("launcher", [(), ("-m",)], ids=["alone", "sweep"])
def test_an_empty_resume_from_is_no_new_study(
    runner: Runner, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    out = runner("experiment=quick_test", "resume_from=", *launcher)

    assert (out.code, out.studies) == (2, [])
    assert out.error.startswith("resume_from='': is empty; give the directory of a study")
    assert list(tmp_path.iterdir()) == []
    assert runner("experiment=quick_test", "resume_from=null").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), ("-m",)], ids=["alone", "sweep"])
def test_a_refused_start_leaves_the_study_as_it_was(
    runner: Runner, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    runner("experiment=quick_test")
    (study,) = tmp_path.glob("outputs/quick_test/*/*")
    (study / "results.json").write_text("[]")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    # Handlers of the first start would log to the study; in a process of its own there are none.
    logging.getLogger().handlers.clear()
    assert runner(*launcher, f"resume_from={study}", "experiment.repeats=0").code == 2

    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert [path.name for path in (study / ".hydra").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "argument",
    [
        "tracking.mlflow.uri='mssql:///?odbc_connect=Driver%3DX;Uid%3Du;Pwd%3Dhunter2secret'",
        "tracking.mlflow.uri='mssql:///?odbc_connect=Uid%3Du%3BPwd%3Dhunter2secret'",
        "output.root='x?access_key=hunter2secret'",
    ],
)
def test_a_password_inside_a_parameter_is_refused_and_not_shown(
    runner: Runner, tmp_path: Path, argument: str
) -> None:
    out = runner("experiment=quick_test", argument)

    assert out.code == 2
    assert "contains a user name or password" in out.error
    assert "hunter2secret" not in out.stdout + out.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["results=[{}]", "root={}", "compare=[{},other]"])
def test_the_analysis_shows_no_password_of_an_address(
    command: Callable[..., Outcome], tmp_path: Path, key: str
) -> None:
    out = command("analyze", key.format("'http://u:hunter2secret@h'"))

    assert out.code == 2
    assert "hunter2secret" not in out.stdout + out.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("swept", "what"),
    [
        ("command='true','nosuchprogram x'", "nosuchprogram: command not found"),
        ("experiment.command.prepare=null,[./nosuchfile]", "no such file"),
        ("experiment.command.directory=null,nosuchplace", "is no directory"),
    ],
)
def test_a_program_that_a_later_job_lacks_stops_the_sweep_before_it_starts(
    runner: Runner, tmp_path: Path, swept: str, what: str
) -> None:
    words = ["experiment=command_study", "experiment.repeats=1", "profiler=none", "tracking=none"]
    if not swept.startswith("command="):
        words.append("command=ls")

    out = runner("-m", *words, swept)

    assert out.code == 2
    assert out.error.startswith("job 1 (")
    assert what in out.error
    assert out.studies == []
    assert list(tmp_path.iterdir()) == []


def test_memory_and_packages_are_checked_for_every_job_of_a_sweep(runner: Runner) -> None:
    package = "experiment.vit_configs[0].timm=null,vit_tiny_patch16_224"
    much = "experiment.test.memory_size_mb=64,900000000"
    for swept in (package, much):
        out = runner("-m", "experiment=quick_test", swept)
        assert (out.code, out.studies) == (2, [])
        assert out.error.startswith("job 1 (")
