"""Studies under a real nsys, on a machine without a GPU: every end keeps what could be kept."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import StudyFailed
from numa_bench.jsonio import read_json
from numa_bench.plan.plan import Plan
from numa_bench.profiling import nsys
from numa_bench.profiling.hiding import can_hide
from numa_bench.profiling.launch import Profiler
from numa_bench.profiling.nsys import NsysError
from numa_bench.records import JsonDict, RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.process import Command
from numa_bench.runner.study import run_study
from numa_bench.store import StudyStore
from numa_bench.study_files import RunPaths
from tests.conftest import NSYS, PROJECT, RUNNER
from tests.fake_worker import READY, TOPOLOGY, carriers, fake_argv, make_plan, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NSYS is None, reason=f"no nsys here; {nsys.INSTALL}"),
]
SMALL = (
    "experiment=quick_test",
    "experiment.vit_configs=[{depth: 2, dim: 128}]",
    "experiment.hardware.device=cpu",
    "experiment.test.num_samples=160",
    "experiment.test.memory_size_mb=16",
    "output.progress=plain",
    "tracking=none",
)
WHOLE = ("profiler=nsys", "profiler.capture=run")


def ranges(sqlite: Path) -> dict[str, int]:
    """NVTX ranges of an exported report by name, with their number."""
    query = (
        "SELECT coalesce(text, (SELECT value FROM StringIds WHERE id = textId)), count(*)"
        " FROM NVTX_EVENTS WHERE eventType = 59 GROUP BY 1"
    )
    with sqlite3.connect(f"file:{sqlite}?mode=ro", uri=True) as base:
        return dict(base.execute(query).fetchall())


def profiled(models: list[str], executable: str = str(NSYS), **config: Any) -> Plan:
    """A plan of fake workers under nsys."""
    plan = make_plan(models, timeout_s=config.pop("timeout_s", 300.0))
    profiler = Profiler("nsys", ProfilerConfig(**config), executable=executable)
    runs = tuple(replace(run, profile=profiler.to_spec()) for run in plan.runs)
    return replace(plan, runs=runs, profiler=profiler)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake workers in the place of the real one: a model's name is its behaviour."""

    def command(spec: RunSpec, paths: RunPaths, *rest: Any) -> Command:
        real = worker_command(spec, paths, *rest)
        at = real.argv.index(sys.executable)
        own = [*fake_argv(spec.vit.name, paths), "--started", str(paths.started)]
        return replace(real, argv=(*real.argv[:at], *own))

    monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", command)


def run_all(plan: Plan, directory: Path) -> list[JsonDict]:
    """Run a study that may fail; its records."""
    with contextlib.suppress(StudyFailed):
        run_study(plan, TOPOLOGY, directory)
    found: list[JsonDict] = read_json(directory / "results.json")
    return found


def script(path: Path, text: str) -> str:
    """A program in the place of nsys."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real study of two models under nsys, with a secret in the caller's environment."""
    root = tmp_path_factory.mktemp("study")
    neighbour = subprocess.Popen(["sleep", "600"], env={"HF_TOKEN": "s3cr3t-0f-a-neighbour"})
    done = subprocess.run(
        [
            sys.executable,
            str(RUNNER),
            *SMALL,
            "profiler=nsys",
            f"output.root={root}",
        ],
        env={
            **os.environ,
            "NSYS": str(NSYS),
            "WANDB_API_KEY": "s3cr3t-0f-a-user",
            "OMP_DYNAMIC": "false",
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    neighbour.kill()
    neighbour.wait()
    assert done.returncode == 0, done.stderr
    assert "profiles  1; to look at them: python analysis/inspect_report.py" in done.stdout
    (found,) = root.glob("quick_test/*/*")
    return found


def test_every_run_leaves_a_report_and_its_export(study: Path) -> None:
    for record in read_json(study / "results.json"):
        assert record["status"] == "passed"
        assert record["profiler"] == "nsys"
        assert (study / record["nsys_report"]).stat().st_size > 0
        found = ranges(study / record["nsys_sqlite"])
        assert found.pop("profiled window") == 1
        # The window after the timed one, and nothing else.
        assert found.keys() == {"H2D", "compute", "D2H"}
        (batches,) = set(found.values())
        assert 1 <= batches <= ProfilerConfig().batches
    assert not (study / ".busy.lock").exists()


def test_throughput_is_that_of_the_window_without_profiler(study: Path) -> None:
    for record in read_json(study / "results.json"):
        timed = record["throughput_samples_per_s"]
        profiled_one = record["profiled_throughput_samples_per_s"]
        assert 0 < record["measured_samples"] <= 160
        assert timed / record["measured_samples"] == pytest.approx(1 / record["measured_s"])
        assert record["profiler_overhead"] == pytest.approx(timed / profiled_one - 1)


def test_a_report_holds_no_secret(study: Path) -> None:
    """Neither the caller's, nor a neighbour's: nsys reads all environments that it may."""
    if not can_hide(PROJECT):
        pytest.skip("this kernel or container does not let environments be hidden")
    record = read_json(study / "results.json")[0]
    for key in ("nsys_report", "nsys_sqlite"):
        data = (study / record[key]).read_bytes()
        assert b"OMP_DYNAMIC" in data  # the environment is in there
        assert b"s3cr3t" not in data
        assert b"WANDB_API_KEY" not in data
        assert b"HF_TOKEN" not in data


def test_the_summary_says_which_nsys_it_was(study: Path) -> None:
    profiler = read_json(study / "experiment_summary.json")["profiler"]

    assert profiler["kind"] == "nsys"
    assert profiler["version"] == nsys.read_version(str(NSYS))


def test_a_whole_run_can_be_recorded(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            str(RUNNER),
            *SMALL,
            "profiler=nsys",
            "profiler.capture=run",
            f"output.root={tmp_path}",
        ],
        env={**os.environ, "NSYS": str(NSYS)},
        cwd=PROJECT,
        capture_output=True,
        timeout=300,
        check=True,
    )

    (results,) = tmp_path.glob("quick_test/*/*/results.json")
    (record,) = read_json(results)
    found = ranges(results.parent / record["nsys_sqlite"])
    assert {"warmup", "timed window", "profiled window"} <= found.keys()
    timed = record["measured_samples"] / record["test_config"]["batch_size"]
    assert found["compute"] > timed
    assert "profiler: the timed window was traced too" in "".join(record["warnings"])


@pytest.mark.usefixtures("fake")
def test_a_timeout_keeps_the_report_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    (record,) = run_all(profiled(["hang_in_range"], capture="run", timeout_s=4), tmp_path / "s")

    assert record["status"] == "timeout"
    assert (tmp_path / "s" / record["nsys_report"]).is_file()
    assert ranges(tmp_path / "s" / record["nsys_sqlite"]) == {"hanging": 1}
    assert list(tmp_path.glob("numa_bench-*")) == []


@pytest.mark.usefixtures("fake")
def test_a_timeout_before_the_window_says_that_there_is_no_report(tmp_path: Path) -> None:
    (record,) = run_all(profiled(["hang"], timeout_s=4), tmp_path)

    assert (record["status"], record["nsys_report"]) == ("timeout", None)
    assert "profiler: nsys left no report" in record["warnings"][-1]


@pytest.mark.usefixtures("fake")
def test_a_crash_is_the_workers_and_keeps_the_report(tmp_path: Path) -> None:
    found = run_all(profiled(["segfault", "raises", "good"], capture="run"), tmp_path)

    assert [r["status"] for r in found] == ["failed", "failed", "passed"]
    assert [r["exit_code"] for r in found] == [-signal.SIGSEGV, 1, 0]
    assert found[0]["error"].startswith("killed by SIGSEGV")
    for record in found:
        assert (tmp_path / record["nsys_report"]).is_file()


@pytest.mark.usefixtures("fake")
def test_ctrl_c_keeps_the_report(tmp_path: Path) -> None:
    plan = profiled(["hang_in_range"], capture="run")
    paths = StudyStore(tmp_path).run_paths(plan.runs[0].run_id)
    presser = subprocess.Popen(
        [
            *("sh", "-c"),
            f"until [ -e {shlex.quote(str(paths.result.parent / READY))} ]; do sleep 0.05; done; "
            f"kill -INT {os.getpid()}",
        ]
    )

    with pytest.raises(KeyboardInterrupt):
        run_study(plan, TOPOLOGY, tmp_path)

    presser.wait()
    (record,) = read_json(tmp_path / "results.json")
    assert record["status"] == "interrupted"
    assert (tmp_path / record["nsys_report"]).is_file()


@pytest.mark.usefixtures("fake")
def test_a_session_lost_at_its_start_is_started_once_more(tmp_path: Path) -> None:
    flaky = script(
        tmp_path / "nsys",
        f'if mkdir "{tmp_path}/lost" 2>/dev/null; then echo lost >&2; exit 1; fi; '
        f'exec "{NSYS}" "$@"',
    )

    (record,) = run_all(profiled(["good"], flaky, capture="run"), tmp_path / "s")

    assert record["status"] == "passed"
    assert "started once more" in "".join(record["warnings"])
    assert (tmp_path / "s" / record["nsys_report"]).is_file()


@pytest.mark.usefixtures("fake")
def test_a_session_lost_twice_is_measured_without_nsys(tmp_path: Path) -> None:
    broken = script(tmp_path / "nsys", "echo no session >&2; exit 1")

    (record,) = run_all(profiled(["good"], broken), tmp_path / "s")

    assert (record["status"], record["nsys_report"]) == ("passed", None)
    (warning,) = record["warnings"]
    assert warning.startswith("profiler: the run failed under nsys (exit code 1, nsys or its child")
    assert warning.endswith("twice); it was measured without it")


@pytest.mark.usefixtures("fake")
def test_an_nsys_that_writes_nothing_does_not_fail_what_was_measured(tmp_path: Path) -> None:
    """Runs the worker (the arguments after --output) and then fails."""
    broken = script(
        tmp_path / "nsys",
        'while [ "${1#--output=}" = "$1" ]; do shift; done; shift; "$@"; exit 1',
    )

    (record,) = run_all(profiled(["good"], broken), tmp_path / "s")

    assert (record["status"], record["exit_code"]) == ("passed", 0)
    assert record["throughput_samples_per_s"] == 100.0
    assert record["nsys_report"] is None
    assert [w.partition(":")[0] for w in record["warnings"]] == ["profiler", "profiler"]


@pytest.mark.usefixtures("fake")
def test_an_export_that_fails_is_in_the_record(tmp_path: Path) -> None:
    no_export = script(
        tmp_path / "nsys",
        f'[ "$1" = export ] && {{ echo no room >&2; exit 3; }}; exec "{NSYS}" "$@"',
    )

    (record,) = run_all(profiled(["good"], no_export, capture="run"), tmp_path / "s")

    assert record["nsys_sqlite"] is None
    assert (tmp_path / "s" / record["nsys_report"]).is_file()
    assert "could not be exported: nsys export exited with 3: no room" in record["warnings"][-1]


def test_a_worker_under_nsys_dies_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, str(RUNNER), *SMALL, "profiler=nsys", f"output.root={tmp_path}"]
    runner = subprocess.Popen(
        [*command, "experiment.test.num_samples=100000000", "experiment.test.time_budget_s=600"],
        env={**os.environ, "NSYS": str(NSYS), "TMPDIR": str(tmp_path)},
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list(tmp_path.glob("quick_test/*/*/runs/*/started.json")), "a worker")
    (started,) = tmp_path.glob("quick_test/*/*/runs/*/started.json")
    worker = Path(f"/proc/{read_json(started)['pid']}/environ").read_bytes().split(b"\0")
    token = next(word for word in worker if word.startswith(b"NUMA_BENCH_RUN=")).decode()
    assert carriers(token)

    runner.kill()
    runner.wait()

    wait_until(lambda: not carriers(token), "the end of nsys and of the worker")


def test_the_inspector_shows_what_was_recorded(study: Path) -> None:
    reports = sorted(map(str, study.glob("nsys_reports/*.nsys-rep")))
    command = [sys.executable, "analysis/inspect_report.py"]

    shown, data = (
        subprocess.run(
            [*command, *options, *reports],
            env={**os.environ, "NSYS": str(NSYS)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for options in ([], ["--json"])
    )

    for word in ("profiled window", "H2D", "compute", "D2H", "no GPU activity"):
        assert word in shown
    (found,) = json.loads(data)
    ranges_by_name = {r["name"]: r["count"] for r in found["ranges"]}
    assert found["window"] == "profiled window"
    assert ranges_by_name["H2D"] == ranges_by_name["compute"] == ranges_by_name["D2H"] > 0
    (record,) = read_json(study / "results.json")
    # One clock measured the window in the worker, another one in nsys.
    batches = ranges_by_name["H2D"] * record["test_config"]["batch_size"]
    inside = batches / record["profiled_throughput_samples_per_s"]
    assert found["window_s"] >= inside
    assert found["window_s"] == pytest.approx(inside, rel=0.25, abs=0.05)


# --- nsys' command line itself


def test_a_probe_finds_one_that_works_and_one_that_does_not(tmp_path: Path) -> None:
    nsys.probe_nsys(str(NSYS), ["--trace=nvtx", "--sample=none", "--cpuctxsw=none"])

    with pytest.raises(NsysError, match="writes no report"):
        nsys.probe_nsys(script(tmp_path / "silent", "exit 0"), [])
    as_packaged = script(tmp_path / "debian", ': > "$TMPDIR/x.qdstrm"; exit 0')
    with pytest.raises(NsysError, match="QdstrmImporter"):
        nsys.probe_nsys(as_packaged, [])


@pytest.mark.parametrize("content", [b"", b"not a report", b"\0" * 5000])
def test_what_is_no_report_cannot_be_exported(tmp_path: Path, content: bytes) -> None:
    report = tmp_path / "r.nsys-rep"
    report.write_bytes(content)

    with pytest.raises(NsysError, match=r"r\.nsys-rep could not be exported"):
        nsys.export_sqlite(str(NSYS), report, tmp_path / "r.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["r.nsys-rep"]


Runner = Callable[..., Any]


def test_nsys_by_name_where_it_is_missing_is_refused_in_one_line(runner: Runner) -> None:
    out = runner("experiment=quick_test", "profiler=nsys")

    assert out.code == 2
    assert "install_nsys.sh" in out.error
    assert out.studies == []
