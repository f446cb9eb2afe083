"""numa-bench check: what a run would be refused for, what it would do, and no trace of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from numa_bench.errors import MachineError
from tests.conftest import Outcome
from tests.machines import laptop, server

Command = Callable[..., Outcome]


def errors_of(out: Outcome) -> list[str]:
    """The errors on stderr, of which each is a line."""
    assert out.code == 2
    assert out.stdout == ""
    lines = out.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


def test_a_study_that_could_start_is_described(command: Command, tmp_path: Path) -> None:
    out = command("check", "experiment=quick_test", "experiment.repeats=2")

    assert (out.code, out.stderr) == (0, "")
    first, second, *warnings = out.stdout.splitlines()
    assert first.startswith("quick_test: 6 runs of 3 cells in shuffled order, about ")
    assert second == "Settings and machine were checked; nothing was run or written."
    assert all(line.startswith("warning: ") for line in warnings)
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_are_reported_each_in_a_line(command: Command, tmp_path: Path) -> None:
    out = command(
        "check",
        "+typo=1",
        "experiment.test.seed=x",
        "experiment.repeats=0",
        "experiment.vit_configs[0].depth=-1",
        "experiment.hardware.numa_nodes=7",
    )

    assert sorted(text.partition(": ")[0] for text in errors_of(out)) == [
        "experiment.hardware.numa_nodes=7",
        "experiment.repeats=0",
        "experiment.test.seed=x",
        "experiment.vit_configs[0].depth=-1",
        "typo",
    ]
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_only_leaving_one_out_would_cause_is_not_reported(command: Command) -> None:
    """Without the name, which is wrong, the experiment would have none."""
    errors = errors_of(command("check", "experiment=schema", "experiment.name=a/b"))

    assert [text.partition(":")[0] for text in errors] == ["experiment.name=a/b"]


def test_every_job_of_a_sweep_is_checked(command: Command) -> None:
    out = command("check", "-m", "experiment.test.batch_size=8,-1,-2", "experiment.repeats=1")

    assert errors_of(out) == [
        "job 1 (experiment.test.batch_size=-1): experiment.test.batch_size=-1: must be at least 1",
        "job 2 (experiment.test.batch_size=-2): experiment.test.batch_size=-2: must be at least 1",
    ]


@pytest.mark.slow
def test_a_sweep_is_described_job_by_job(command: Command) -> None:
    out = command("check", "experiment=grid_search", "experiment.repeats=2")

    assert out.code == 0
    lines = out.stdout.splitlines()
    assert lines[0].startswith("job 0 (experiment.vit_configs.0.depth=2,")
    assert lines[9].startswith("9 jobs, 18 runs, about ")


def test_what_the_machine_lacks_is_reported_beside_other_mistakes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(what: str) -> Callable[[object], None]:
        def check(_: object) -> None:
            raise MachineError(what)

        return check

    monkeypatch.setattr("numa_bench.commands.run.check_binding", refuse("no numactl"))
    monkeypatch.setattr("numa_bench.commands.run.check_gpus", refuse("no CUDA"))

    errors = errors_of(command("check", "experiment.repeats=0", machine=server()))

    assert errors == ["experiment.repeats=0: must be at least 1", "no numactl", "no CUDA"]


def test_a_directory_that_cannot_be_made_is_reported(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert errors_of(command("check", "output.root=file/x")) == [
        "file is no directory; choose another output.root"
    ]


def test_another_machine_is_checked_by_its_topology(command: Command, tmp_path: Path) -> None:
    saved = tmp_path / "topology.json"
    saved.write_text(json.dumps(server().to_dict()))
    arguments = ("--topology", str(saved), "experiment.hardware.gpu_ids=[0,7]")

    out = command("check", *arguments, machine=laptop())

    assert out.code == 0, out.stderr
    assert "Settings were checked;" in out.stdout
    assert command("check", *arguments[2:], machine=laptop()).code == 2
    (wrong,) = errors_of(command("check", *arguments[:2], "experiment.hardware.gpu_ids=[9]"))
    assert wrong.startswith("experiment.hardware.gpu_ids=[9]: no GPU 9")


@pytest.mark.parametrize("text", [None, "[]", "{", '{"nodes": 1, "gpus": []}'])
def test_a_file_that_is_no_topology_is_refused(
    command: Command, tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "t.json").write_text(text)

    (error,) = errors_of(command("check", "--topology", "t.json"))

    assert error.startswith("--topology t.json: ")
    assert error.endswith("give the topology.json of a study")


@pytest.mark.parametrize("name", ["nowhere", "sweep"])
def test_what_cannot_be_resumed_is_refused(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "sweep").mkdir()

    (error,) = errors_of(command("check", f"resume_from={name}"))

    assert error.startswith(f"resume_from={name}: ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("-m", "experiment.test.batch_size=glob(x*)"),
            "experiment.test.batch_size=glob(x*): glob selects names of a config group, which "
            "experiment.test.batch_size is not; list the values",
        ),
        (
            ("-m", "profiler=glob(x*)"),
            "profiler=glob(x*): matches none of auto, none, nsys, torch",
        ),
        (("profiler=",), "profiler=: no such file in conf/; one of auto, none, nsys, torch"),
        (
            ("-m", "experiment.repeats=range(1,1000000000)"),
            "experiment.repeats=range(1,1000000000): makes more than 10,000 jobs, the most that a "
            "sweep has; use fewer values",
        ),
    ],
)
def test_jobs_that_cannot_be_listed_are_refused_at_once(
    command: Command, words: tuple[str, ...], error: str
) -> None:
    assert errors_of(command("check", *words)) == [error]


def test_numbers_that_are_too_large_are_all_reported(command: Command) -> None:
    """One that other settings do not go with hides none of the others."""
    keys = [
        *(f"experiment.test.{name}" for name in ("image_size", "batch_size", "cpu_threads")),
        *("experiment.repeats", "experiment.max_gpus", "tracking.series_points"),
    ]

    errors = errors_of(command("check", *(f"{key}={10**19}" for key in keys)))

    assert sorted(text.partition("=")[0] for text in errors) == sorted(keys)


def test_an_error_that_quotes_a_setting_does_not_hide_others(command: Command) -> None:
    errors = errors_of(
        command("check", "experiment.repeats=0", "experiment.test.image_size=33", "time_limit=x")
    )

    assert [text.partition(":")[0] for text in errors] == [
        "experiment.repeats=0",
        "experiment.vit_configs[0].patch_size=32",
        "time_limit=x",
    ]


@pytest.mark.slow
def test_many_jobs_are_announced(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numa_bench.commands.checks.jobs._MANY_JOBS", 3)

    for count, said in ((2, ""), (3, "checking jobs: 3\n")):
        out = command(
            "check", "-m", "experiment=quick_test", f"experiment.test.seed=range({count})"
        )
        assert (out.code, out.stderr) == (0, said)


def test_jobs_without_a_difference_have_their_overrides_as_a_name(command: Command) -> None:
    out = command("check", "-m", "experiment=quick_test", "experiment.test.seed=1,1")

    name = "experiment=quick_test,experiment.test.seed=1"
    for number, line in enumerate(out.stdout.splitlines()[:2]):
        assert line.startswith(f"job {number} ({name}): ")
