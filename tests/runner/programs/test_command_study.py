"""Whole studies of small commands on this machine: what their records say."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.errors import StudyFailed
from numa_bench.machine.topology import discover_topology
from numa_bench.plan.plan import Plan
from numa_bench.runner.study import run_study
from tests.conftest import PROJECT

Plans = Callable[..., Plan]
Runs = Callable[..., dict[str, Any]]
BASE = (
    *("experiment=command_study", "experiment.hardware.numa_nodes=unbound", "experiment.repeats=1"),
    *("experiment.hardware.device=cpu", "tracking=none", "experiment.monitor_interval_s=0"),
)


@pytest.fixture
def record(plan: Plans, tmp_path: Path) -> Runs:
    """The record of one run of a text for /bin/sh, unbound: this machine may forbid binding."""

    def ran(text: str, *overrides: str) -> dict[str, Any]:
        machine = discover_topology()
        config = (*BASE, "experiment.command.shell=true", *overrides)
        quoted = text.replace("'", "\\'")
        planned = plan(machine, *config, f"command='{quoted}'")
        study = tmp_path / "study"
        with contextlib.suppress(StudyFailed):
            run_study(planned, machine, study)
        records = json.loads((study / "results.json").read_text())
        assert len(records) == 1
        return dict(records[0])

    return ran


def test_the_wall_time_of_a_command_that_succeeds(record: Runs) -> None:
    found = record("sleep 0.05")

    assert (found["status"], found["exit_code"], found["vit_name"]) == ("passed", 0, "sleep")
    assert 0.05 <= found["wall_s"] <= found["duration_s"] + 0.001
    assert found["workload"] == "command"
    assert found["placement_fraction"] is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("true", "{lost}; metric rate was not found: "),
        ("exit 1", "exit code 1: {lost}"),
        ("echo rate seven", "{lost}; metric rate is 'seven', which is no number"),
        ("echo why; exit 1", "exit code 1: why"),
    ],
)
def test_output_that_a_full_disk_did_not_take(
    record: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: str
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numa_bench.runner.programs.lost_output.check_room", refuse)
    found = record(text, "experiment.command.metrics=['rate:higher:GB/s=rate (.+)']")
    logs = tmp_path / "study" / "logs"
    lost = (
        f"its output could not be written to {logs} (No space left on device); free some space "
        "and resume the study"
    )
    assert found["status"] == "failed"
    assert found["error"].startswith(error.format(lost=lost))


def test_metrics_of_output_and_file_are_keys_of_the_record(record: Runs) -> None:
    found = record(
        'echo rate 12.5; echo "{\\"p99\\": 3}" > {out}/m.json',
        "experiment.command.metrics=['rate:higher:GB/s=rate ([0-9.]+)',"
        "{name: p99, better: lower, unit: ms, json: '{out}/m.json', key: p99}]",
    )

    assert (found["metric_rate"], found["metric_p99"]) == (12.5, 3)
    assert found["workload_config"]["metrics"][0]["unit"] == "GB/s"


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("echo last words >&2; exit 3", (), "exit code 3: last words"),
        ("echo only stdout; exit 3", (), "exit code 3: only stdout"),
        ("no-such-program-here", (), "a command was not found"),
        ("kill -9 $$", (), "killed by SIGKILL"),
        ("echo hello", ("experiment.command.metrics=['a:lower:s=bye (.*)']",), "metric a was not"),
        ("echo a nan", ("experiment.command.metrics=['a:lower:s=a (.*)']",), "metric a is nan"),
        ("exec sleep 60", ("experiment.test.timeout_s=0.2",), "stopped after timeout_s=0.2"),
        ("yes", ("experiment.command.max_output_mb=1",), "wrote more than 1 MB of output"),
        ("true", ("experiment.command.prepare='false'",), "prepare command `false` failed"),
        ("true", ("experiment.command.cleanup='false'",), "cleanup command `false` failed"),
        ("exit 4", ("experiment.command.warmup=1",), "warm-up 1: exit code 4"),
        ("echo it is not a tty; exit 1", (), "it needs a terminal"),
        ("echo Output is not to a terminal; exit 1", (), "it needs a terminal"),
        ("python3 -c 'input()'", (), "it reads its standard input, which is empty"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    record: Runs, text: str, overrides: tuple[str, ...], words: str
) -> None:
    found = record(text, "output.grace_s=0.2", *overrides)

    assert found["status"] == ("timeout" if "timeout" in words else "failed")
    assert words in found["error"].splitlines()[0]


def test_last_lines_follow_a_missing_metric(record: Runs) -> None:
    found = record("echo one; echo two", "experiment.command.metrics=['a:lower:s=three']")

    assert found["error"].splitlines()[1:] == ["one", "two"]


def test_a_check_that_fails_makes_the_run_invalid(record: Runs) -> None:
    check = "experiment.command.check='test -s {out}/result'"

    found = record("true", check)

    assert found["status"] == "invalid"
    assert "the check command failed: exit code 1" in found["error"]


@pytest.mark.parametrize(
    ("require", "reason"),
    [
        ("[sh,-c,'echo trying; echo no such option >&2; exit 2']", "no such option"),
        ("[sh,-c,'exit 2']", "exit code 2"),
        ("no-such-program-here", "no-such-program-here"),
    ],
)
def test_a_run_whose_requirement_is_not_met_is_waived(
    record: Runs, tmp_path: Path, require: str, reason: str
) -> None:
    found = record(
        f"touch {tmp_path}/ran",
        f"experiment.command.require={require}",
        "experiment.hardware.memory_nodes=[0]",
    )

    assert found["status"] == "waived"
    assert found["error"].splitlines() == [found["error"]]
    assert reason in found["error"]
    assert found["warnings"] == []
    assert not (tmp_path / "ran").exists()


def test_a_requirement_is_tried_once(plan: Plans, tmp_path: Path) -> None:
    """Programs such as torchrun take seconds to say that they cannot."""
    machine = discover_topology()
    tried = tmp_path / "tried"
    planned = plan(
        *(machine, *BASE, "experiment.repeats=3", "command='sleep 0'"),
        f"experiment.command.require=[sh,-c,'echo x >> {tried}; exit 1']",
    )

    run_study(planned, machine, tmp_path / "study")

    records = json.loads((tmp_path / "study" / "results.json").read_text())
    assert [record["status"] for record in records] == ["waived"] * 3
    assert len({record["error"] for record in records}) == 1
    assert tried.read_text() == "x\n"


def test_a_run_whose_requirement_is_met_is_measured(record: Runs) -> None:
    found = record("true", "experiment.command.require='true'")

    assert (found["status"], found["error"]) == ("passed", None)


def test_a_check_sees_what_the_command_wrote(record: Runs) -> None:
    found = record("echo x > {out}/result", "experiment.command.check='test -s {out}/result'")

    assert found["status"] == "passed"


def test_warm_ups_are_kept_apart_and_each_execution_is_prepared(
    record: Runs, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    found = record(
        f"echo run >> {log}; echo rate $(wc -l < {log})",
        "experiment.command.warmup=2",
        f"experiment.command.prepare=[sh,-c,'echo prepare >> {log}']",
        f"experiment.command.cleanup=[sh,-c,'echo cleanup >> {log}']",
        "experiment.command.metrics=['lines:lower:1=rate ([0-9]+)']",
    )

    assert log.read_text().split() == ["prepare", "run", "cleanup"] * 3
    assert len(found["warmup"]["wall_s"]) == 2
    assert found["metric_lines"] == 8  # of the third execution


def test_a_program_left_behind_is_named(record: Runs) -> None:
    found = record("sleep 60 & echo done")

    assert found["status"] == "passed"
    assert any(text.startswith("leftovers: still running") for text in found["warnings"])


def test_secrets_of_the_environment_are_not_kept(
    record: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret-value-1")

    found = record("env; env >&2; exit 1")

    assert found["status"] == "failed"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if b"secret-value-1" in path.read_bytes()] == []


def test_a_log_in_another_place_is_read_where_the_command_ran(record: Runs, tmp_path: Path) -> None:
    found = record(
        "echo '[{\"t\": 5}]' > here.json",
        f"experiment.command.directory={tmp_path}",
        "experiment.command.metrics=[{name: t, better: lower, unit: s, json: here.json, key: 0.t}]",
    )

    assert found["metric_t"] == 5


def test_nothing_of_ours_is_put_on_the_path_of_a_python_program(
    record: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")

    found = record("echo path=$PYTHONPATH; exit 1")

    assert found["error"].splitlines()[-1] == "path=/mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("stream.py --mb 8 --rounds 1", "triad ([0-9.]+) GB/s"),
        ("dataloader.py --batches 3 --workers 1", "([0-9.]+) samples/s"),
    ],
)
def test_the_examples_print_what_their_studies_read(record: Runs, text: str, metric: str) -> None:
    found = record(
        f"{sys.executable} {PROJECT}/examples/own_workloads/{text}",
        f"experiment.command.metrics=['rate:higher:1/s={metric}']",
    )

    assert found["status"] == "passed", found["error"]
    assert found["metric_rate"] > 0
