"""A study from start to end, with fake workers: what is run, kept, shown, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pexpect
import pytest

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import StoreError, StudyFailed
from numa_bench.invocation import resume_command
from numa_bench.isolation.host_locks import hold_start_up
from numa_bench.jsonio import read_json, write_text
from numa_bench.metric_registry import METRICS
from numa_bench.records import JsonDict, Status
from numa_bench.runner.study import run_study
from numa_bench.runner.worker_run import read_last_lines
from numa_bench.store import StudyStore
from numa_bench.study_files import RESOLVED_CONFIG
from numa_bench.versions import PROJECT
from tests.fake_worker import (
    GO,
    LIMIT_S,
    READY,
    SAMPLES,
    TOPOLOGY,
    drive_argv,
    fake_command,
    make_plan,
    model_names,
    wait_until,
)

ENDINGS = {
    # behaviour: status, exit code, how the error begins (None: no error)
    "good": ("passed", 0, None),
    "waived": ("waived", 0, "no such thing here"),
    "invalid": ("invalid", 0, "memory was elsewhere"),
    "raises": ("failed", 1, "RuntimeError: shapes do not fit\nTraceback"),
    "latin1": ("failed", 1, "OSError\ncaf\ufffd \ufffd\ufffd cannot be opened"),
    "segfault": ("failed", -signal.SIGSEGV, "killed by SIGSEGV"),
    "killed": ("failed", -signal.SIGKILL, "killed"),
    "half": ("failed", 0, "exit code 0, and its result cannot be read: "),
    "binary": ("failed", 0, "exit code 0, and its result cannot be read: "),
    "other_shape": ("failed", 0, "exit code 0, and its result cannot be read: "),
    "uneven_samples": ("failed", 0, "exit code 0, and its result cannot be read: its stages"),
    "missing_samples": ("failed", 0, "exit code 0, and its result cannot be read: "),
    "silent": ("failed", 0, "exit code 0, and it left no result"),
    "passed_exit_3": ("failed", 3, "exit code 3 contradicts the result, which says passed"),
    "failed_exit_0": ("failed", 0, "exit code 0 contradicts the result, which says failed"),
    "other_run": ("failed", 0, "the result is of another run: another_r0-abcdef"),
    "leaves_child": ("passed", 0, None),
    "no_throughput": ("passed", 0, None),
}


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes models m0, m1, ... behave so from now on."""

    def choose(*behaviours: str) -> None:
        names = model_names(len(behaviours))
        command = fake_command(dict(zip(names, behaviours, strict=True)))
        monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", command)

    return choose


def records_in(directory: Path) -> list[JsonDict]:
    found: list[JsonDict] = read_json(directory / "results.json")
    return found


@pytest.mark.slow
def test_every_ending_becomes_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "numa_bench.runner.worker_run.worker_command", fake_command({n: n for n in ENDINGS})
    )
    plan = make_plan(list(ENDINGS))
    with pytest.raises(StudyFailed, match="not every run passed: 3 passed, 13 failed, 1 waived"):
        run_study(plan, TOPOLOGY, tmp_path)

    records = records_in(tmp_path)
    assert [r["run_id"] for r in records] == [run.run_id for run in plan.runs]
    for record in records:
        status, exit_code, error = ENDINGS[record["vit_name"]]
        assert (record["status"], record["exit_code"]) == (status, exit_code), record
        assert (record["error"] or "").startswith(error or ""), record
        assert (record["error"] is None) == (error is None), record
        assert record["success"] is (status == "passed")
        assert record["attempt"] == 1
        assert record["duration_s"] > 0
        assert METRICS.keys() <= record.keys()
        for log in ("stdout_log", "stderr_log"):
            assert (tmp_path / record[log]).is_file()
    by_name = {record["vit_name"]: record for record in records}
    assert by_name["good"]["throughput_samples_per_s"] == 100.0
    assert by_name["good"]["latency_p50_ms"] is None
    assert by_name["no_throughput"]["throughput_samples_per_s"] is None
    (warning,) = by_name["leaves_child"]["warnings"]
    assert warning.startswith("leftovers: ")
    assert "now killed: python" in warning
    assert by_name["good"]["warnings"] == []

    summary = read_json(tmp_path / "experiment_summary.json")
    counts = {"passed": 3, "failed": 13, "waived": 1, "invalid": 1, "timeout": 0, "interrupted": 0}
    assert summary["counts"] == counts
    assert summary["planned"] == len(ENDINGS)
    assert summary["success_rate"] == 3 / len(ENDINGS)
    assert summary["interrupted"] is False
    assert summary["run_order"] == [run.run_id for run in plan.runs]
    assert summary["runs_duration_s"] == pytest.approx(sum(r["duration_s"] for r in records))
    assert read_json(tmp_path / "topology.json") == TOPOLOGY.to_dict()
    assert not (tmp_path / ".lock").exists()

    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    for run in plan.runs:
        assert len(re.findall(rf"INFO +start {run.run_id}$", shown.err, re.M)) == 1
        status = ENDINGS[run.vit.name][0]
        level = "INFO" if status in ("passed", "waived") else "WARNING"
        assert len(re.findall(rf"{level} +{status} {run.run_id}  ", shown.err)) == 1
    assert "fake: throughput" in shown.out
    assert "3 passed, 13 failed, 1 waived, 1 invalid of 18 planned" in shown.out
    assert f"results   {tmp_path / 'results.json'}" in shown.out
    assert "14 not done; to run them: python hydra_experiment_runner.py resume_from=" in shown.out


@pytest.mark.slow
def test_a_run_that_lasts_too_long(tmp_path: Path, behave: Callable[..., None]) -> None:
    behave("hang", "good")
    slow, quick = make_plan(["m0", "m1"]).runs
    slow = replace(slow, test=replace(slow.test, timeout_s=0.5))
    plan = replace(make_plan([]), cells=(slow, quick), runs=(slow, quick))
    with pytest.raises(StudyFailed, match="1 passed, 1 timeout"):
        run_study(plan, TOPOLOGY, tmp_path)
    timeout, passed = records_in(tmp_path)
    assert (timeout["status"], timeout["exit_code"]) == ("timeout", -signal.SIGTERM)
    assert timeout["error"].startswith("stopped after timeout_s=0.5; raise it")
    assert timeout["duration_s"] >= 0.5
    assert passed["status"] == "passed"


def test_sensors_that_missed_the_window_say_so(tmp_path: Path, behave: Callable[..., None]) -> None:
    """A fake worker names no window, so that no reading can be inside it."""
    behave("good")
    run_study(replace(make_plan(["m0"]), monitor_interval_s=0.1), TOPOLOGY, tmp_path)
    (record,) = records_in(tmp_path)
    assert record["monitor"] is None
    assert [warning.partition(":")[0] for warning in record["warnings"]] == ["no_reading"]


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["good", "waived", "leaves_child", "no_throughput"])
def test_a_study_without_bad_runs_ends_well(
    tmp_path: Path, behave: Callable[..., None], behaviour: str
) -> None:
    behave(behaviour)
    run_study(make_plan(["m0"], repeats=2), TOPOLOGY, tmp_path)
    status = ENDINGS[behaviour][0]
    assert [r["status"] for r in records_in(tmp_path)] == [status] * 2
    summary = read_json(tmp_path / "experiment_summary.json")
    assert summary["success_rate"] == (1.0 if status == "passed" else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["raises", "invalid", "silent"])
def test_one_bad_run_fails_the_study(
    tmp_path: Path, behave: Callable[..., None], behaviour: str
) -> None:
    behave("good", behaviour, "good")
    with pytest.raises(StudyFailed, match=f"2 passed, 1 {ENDINGS[behaviour][0]}") as caught:
        run_study(make_plan(["m0", "m1", "m2"]), TOPOLOGY, tmp_path)
    assert caught.value.exit_code == 1
    assert str(tmp_path / "results.json") in str(caught.value)
    assert len(records_in(tmp_path)) == 3


@pytest.mark.slow
def test_a_resumed_study_runs_what_is_pending_only(
    tmp_path: Path, behave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(["m0", "m1", "m2", "m3"])
    behave("good", "raises", "waived", "invalid")
    with pytest.raises(StudyFailed):
        run_study(plan, TOPOLOGY, tmp_path)
    before = {r["vit_name"]: r for r in records_in(tmp_path)}
    capsys.readouterr()

    behave("silent", "good", "silent", "good")  # m0 and m2 would fail, if they ran
    run_study(plan, TOPOLOGY, tmp_path)
    after = {r["vit_name"]: r for r in records_in(tmp_path)}
    assert after["m0"] == before["m0"]
    assert after["m2"] == before["m2"]
    for name in ("m1", "m3"):
        assert (after[name]["status"], after[name]["attempt"]) == ("passed", 2)
        kept = tmp_path / "runs" / after[name]["run_id"] / "attempt1"
        assert (kept / "result.json").is_file()
        assert (kept / f"{after[name]['run_id']}.stderr").is_file()
    shown = capsys.readouterr()
    assert "2 runs, 2 already done" in shown.err
    assert shown.err.count(" start ") == 2
    assert "not done" not in shown.out

    behave("silent", "silent", "silent", "silent")
    run_study(plan, TOPOLOGY, tmp_path)  # nothing left to do
    assert {r["vit_name"]: r for r in records_in(tmp_path)} == after


def test_repeats_that_are_no_longer_planned_do_not_count_as_done(
    tmp_path: Path, behave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    behave("good", "raises")
    run_study(make_plan(["m0"], repeats=3), TOPOLOGY, tmp_path)
    with pytest.raises(StudyFailed):
        run_study(make_plan(["m0", "m1"]), TOPOLOGY, tmp_path)
    assert "1 not done; to run them" in capsys.readouterr().out


def test_a_debug_study_starts_anew(tmp_path: Path, behave: Callable[..., None]) -> None:
    behave("good", "good")
    settings = tmp_path / RESOLVED_CONFIG
    settings.parent.mkdir()
    settings.write_text("debug: true")
    run_study(make_plan(["m0", "m1"]), TOPOLOGY, tmp_path)
    (tmp_path / "experiment.log").write_text("open in Hydra")
    run_study(replace(make_plan(["m0"]), debug=True), TOPOLOGY, tmp_path)
    (record,) = records_in(tmp_path)
    assert (record["vit_name"], record["attempt"]) == ("m0", 1)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert (tmp_path / "experiment.log").is_file()


def test_a_debug_study_removes_no_other_study(tmp_path: Path, behave: Callable[..., None]) -> None:
    behave("good")
    run_study(make_plan(["m0"]), TOPOLOGY, tmp_path)
    before = records_in(tmp_path)
    with pytest.raises(StoreError, match="was not made with debug=true"):
        run_study(replace(make_plan(["m0"]), debug=True), TOPOLOGY, tmp_path)
    assert records_in(tmp_path) == before
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_resumed_debug_study_goes_on(tmp_path: Path, behave: Callable[..., None]) -> None:
    behave("good", "good")
    plan = replace(make_plan(["m0"]), debug=True)
    run_study(plan, TOPOLOGY, tmp_path)
    before = records_in(tmp_path)
    run_study(replace(plan, resume_from=str(tmp_path)), TOPOLOGY, tmp_path)
    assert records_in(tmp_path) == before


def test_warnings_of_the_plan_are_told(
    tmp_path: Path, behave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    behave("good")
    run_study(replace(make_plan(["m0"]), warnings=("measured once",)), TOPOLOGY, tmp_path)
    assert re.search(r"WARNING +measured once", capsys.readouterr().err)


def test_a_result_that_was_left_elsewhere_is_moved_to_its_place(
    tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave("spare_result")
    plan = make_plan(["m0"])
    run_study(plan, TOPOLOGY, tmp_path)
    paths = StudyStore(tmp_path).run_paths(plan.runs[0].run_id)
    assert read_json(paths.result)["samples"] == SAMPLES
    assert not paths.spare_result.exists()
    assert records_in(tmp_path)[0]["warnings"] == []


def test_a_result_that_cannot_be_moved_is_told_where_it_is(
    tmp_path: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    behave("spare_result")
    monkeypatch.setattr("numa_bench.runner.worker_run.write_json", no_space)
    plan = make_plan(["m0"])
    run_study(plan, TOPOLOGY, tmp_path)
    spare = StudyStore(tmp_path).run_paths(plan.runs[0].run_id).spare_result
    (record,) = records_in(tmp_path)
    assert record["status"] == "passed"
    assert str(spare) in record["warnings"][0]
    assert read_json(spare)["run_id"] == plan.runs[0].run_id
    spare.unlink()


def test_a_run_whose_files_cannot_be_written_has_no_metrics_of_an_earlier_attempt(
    tmp_path: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave("passed_exit_3", "good")
    plan = make_plan(["m0", "m1"])
    with pytest.raises(StudyFailed):
        run_study(make_plan(["m0"]), TOPOLOGY, tmp_path)
    assert records_in(tmp_path)[0]["throughput_samples_per_s"] == 100.0

    def prepare(store: StudyStore, spec: Any) -> Any:
        if spec.vit.name == "m0":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(store, spec)

    real = StudyStore.prepare_run
    monkeypatch.setattr(StudyStore, "prepare_run", prepare)
    with pytest.raises(StudyFailed):
        run_study(plan, TOPOLOGY, tmp_path)
    failed, passed = records_in(tmp_path)
    assert (failed["status"], failed["exit_code"], failed["attempt"]) == ("failed", None, 2)
    assert "its files cannot be written" in failed["error"]
    assert "No space left" in failed["error"]
    assert failed["throughput_samples_per_s"] is None
    assert passed["status"] == "passed"


def test_results_that_go_elsewhere_end_the_study_non_zero(
    tmp_path: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Although every run passed."""

    def write(path: Path, text: str) -> None:
        if path == tmp_path / "study" / "results.json" and path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write_text(path, text)

    behave("good", "good")
    monkeypatch.setattr("numa_bench.store.write_text", write)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StudyFailed, match=r"the results \(.*\) could not be written to"):
        run_study(make_plan(["m0", "m1"]), TOPOLOGY, tmp_path / "study")
    (saved,) = tmp_path.glob("numa_bench-*/results.json")
    assert [r["status"] for r in read_json(saved)] == ["passed", "passed"]
    lines = capsys.readouterr().out
    command = resume_command(tmp_path / "study")
    assert f"to store the results in the study, when there is space: {command}\n" in lines


def test_results_that_no_disk_takes_are_shown(
    tmp_path: Path,
    behave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The temporary directory is on the same disk."""
    writes = 0

    def write(path: Path, text: str) -> None:
        nonlocal writes
        writes += 1
        if writes > 3:  # the empty results, and two records
            raise OSError(errno.ENOSPC, "No space left on device")
        write_text(path, text)

    behave("good", "good", "good")
    monkeypatch.setattr("numa_bench.store.write_text", write)
    monkeypatch.setattr("numa_bench.records.spare_files.write_text", write)
    monkeypatch.setattr("numa_bench.records.journal.Journal.append_lines", write)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = make_plan(["m0", "m1", "m2"])
    with pytest.raises(StudyFailed, match="the lines above show them") as caught:
        run_study(plan, TOPOLOGY, tmp_path / "study")
    assert caught.value.exit_code == 1
    assert len(records_in(tmp_path / "study")) == 2
    lost = plan.runs[2].run_id
    lines = capsys.readouterr().out
    assert "3 passed of 3 planned" in lines
    assert "results.json, without 1 that no disk took:" in lines
    assert re.search(rf"^ +passed {lost}  100\.0 samples/s", lines, re.MULTILINE)
    command = resume_command(tmp_path / "study")
    assert f"to run what is not stored, when there is space: {command}\n" in lines


# What is shown.


def test_an_error_with_brackets_is_shown_as_it_is(
    tmp_path: Path, behave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch says [enforce fail at ...]; rich would take it for a style, or fail on [/x]."""
    behave("raises_markup", "good")
    with pytest.raises(StudyFailed, match="1 passed, 1 failed"):
        run_study(make_plan(["m0", "m1"], progress="bar"), TOPOLOGY, tmp_path)
    printed = " ".join(capsys.readouterr().err.split())
    assert "RuntimeError: [enforce fail at alloc_cpu.cpp:114] [/nowhere] :x:" in printed


@pytest.mark.parametrize(("level", "lines"), [("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_the_log_level_is_obeyed(
    tmp_path: Path,
    behave: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    level: str,
    lines: int,
) -> None:
    behave("good", "raises")
    before = list(logging.getLogger().handlers)
    with pytest.raises(StudyFailed):
        run_study(make_plan(["m0", "m1"], log_level=level), TOPOLOGY, tmp_path)
    err = capsys.readouterr().err
    assert len(re.findall(r" (?:passed|failed) m\d", err)) == lines
    assert logging.getLogger().handlers == before


def terminal(directory: Path, *words: str) -> pexpect.spawn[str]:
    """A study of fake workers on a terminal of 180 columns that has no colours."""
    program, *arguments = drive_argv(directory, *words)
    return pexpect.spawn(
        program,
        arguments,
        cwd=str(PROJECT),
        env={**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "180"},
        dimensions=(40, 180),
        encoding="utf-8",
        timeout=LIMIT_S,
    )


def close_terminal(child: pexpect.spawn[str]) -> None:
    """As when the window is closed: the kernel sends SIGHUP, and writing fails from now on."""
    os.close(child.child_fd)
    child.closed = True


def exit_code(child: pexpect.spawn[str]) -> int:
    """Of a child whose terminal was closed; pexpect would look for what it still says."""
    ended: list[int] = []

    def look() -> bool:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            ended.append(os.waitstatus_to_exitcode(status))
        return pid != 0

    wait_until(look, "the study ends")
    return ended[0]


@pytest.mark.slow
def test_a_terminal_gets_a_bar_a_line_per_run_and_the_table(tmp_path: Path) -> None:
    child = terminal(tmp_path / "study", "good", "raises", "waived")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", child.before or "")
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown)]
    during, title, after = shown.partition("fake: throughput")
    assert title
    assert "━" in during
    assert "3/3" in during
    for run, mark in zip(make_plan(model_names(3)).runs, ["ok", "failed", "waived"], strict=True):
        assert sum(line.startswith(f"{mark} {run.run_id}") for line in lines) == 1
    assert any("RuntimeError: shapes do not fit" in line for line in lines)
    # The bar is off the screen when the table comes: it neither shares a line nor is drawn again.
    assert "fake: throughput" in lines
    assert not re.search(r"\d/3", after)
    assert re.search(r"│\s+m0\s+│.*│\s+1/1\s+│\s+100\.0\s+│", after)
    assert "1 passed, 1 failed, 1 waived of 3 planned" in lines
    assert "1 not done; to run them" in after
    assert "Traceback" not in shown


@pytest.mark.slow
def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """The terminal sends SIGINT to the whole foreground group; the worker is not in it."""
    child = terminal(tmp_path / "study", "good", "hang", "good")
    child.expect("ok m0_r0")
    child.expect("m1_r0")  # the bar names the run
    child.sendintr()
    child.expect(r"interrupted\S* m1_r0")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert [r["status"] for r in records_in(tmp_path / "study")] == ["passed", "interrupted"]


@pytest.mark.slow
def test_a_terminal_that_is_closed_interrupts_the_study(tmp_path: Path) -> None:
    directory = tmp_path / "study"
    child = terminal(directory, "good", "hang", "good")
    child.expect("ok m0_r0")
    child.expect("m1_r0")
    close_terminal(child)
    assert exit_code(child) == 130
    assert [r["status"] for r in records_in(directory)] == ["passed", "interrupted"]
    assert read_json(directory / "experiment_summary.json")["counts"]["interrupted"] == 1


@pytest.mark.slow
def test_a_study_that_ignores_hangups_goes_on_without_its_terminal(tmp_path: Path) -> None:
    directory = tmp_path / "study"
    child = terminal(directory, "--nohup", "waits_for_go", "good")
    run = directory / "runs" / make_plan(model_names(2)).runs[0].run_id
    child.expect("m0_r0")
    wait_until((run / READY).exists, "the first run is under way")
    close_terminal(child)
    (run / GO).touch()
    assert exit_code(child) == 0
    assert [r["status"] for r in records_in(directory)] == ["passed", "passed"]
    assert read_json(directory / "experiment_summary.json")["counts"]["passed"] == 2


def test_a_reader_that_goes_away_does_not_fail_the_study(tmp_path: Path) -> None:
    """`runner | head`: the table finds nobody who reads it."""
    with subprocess.Popen(
        drive_argv(tmp_path / "study", "good"),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(LIMIT_S) == 0, err
    assert "Traceback" not in err
    assert [r["status"] for r in records_in(tmp_path / "study")] == ["passed"]


# Logs.


@pytest.mark.parametrize(
    ("data", "count", "text"),
    [
        (b"one\ntwo\nthree\n", 2, "two\nthree"),
        (b"one\n", 5, "one"),
        (b"", 5, ""),
        (b"one\ntwo\n", 0, ""),
        (b"caf\xe9\n", 1, "caf\ufffd"),
        ("é".encode() * 20_000 + b"\n", 1, "\ufffdé"),
    ],
    ids=["last", "few", "empty", "none", "not UTF-8", "cut in a character"],
)
def test_last_lines(tmp_path: Path, data: bytes, count: int, text: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(data)
    found = read_last_lines(log, count)
    assert found.startswith(text)
    assert len(found.splitlines()) <= count


def test_last_lines_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert read_last_lines(tmp_path / "log", 5) == ""
    assert read_last_lines(tmp_path, 5) == ""


def test_statuses_of_the_table_are_all_there_are() -> None:
    """ENDINGS above covers what a worker can do; timeout and interrupted are others' doing."""
    assert {status for status, _, _ in ENDINGS.values()} | {"timeout", "interrupted"} == {
        status.value for status in Status
    }


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("outputs/x", "resume_from=outputs/x"),
        ("my study", "'resume_from='\"'\"'my study'\"'\"''"),
        ("a=1,b", "'resume_from='\"'\"'a=1,b'\"'\"''"),
    ],
)
def test_the_resume_command_can_be_pasted(name: str, word: str) -> None:
    command = resume_command(Path(name))
    assert command.split(" ", 2)[2] == word
    assert shlex.split(command)[2].replace("'", "") == f"resume_from={name}"


@pytest.mark.slow
def test_a_study_gives_up_its_start_up_lock_before_its_first_run(
    tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave("good")
    isolation = IsolationConfig(wait_limit_s=0.0)
    with ExitStack() as start_up:
        start_up.enter_context(hold_start_up(isolation, lambda _: None))
        plan = replace(make_plan(["m0"]), isolation=isolation)
        run_study(plan, TOPOLOGY, tmp_path, started=start_up.close)

    assert [r["status"] for r in records_in(tmp_path)] == ["passed"]
