"""Trackers against the real things: MLflow on SQLite and on a server, W&B offline, TensorBoard."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.commands.tracker_upload import upload_report
from numa_bench.config.loading import save_resolved
from numa_bench.config.schema import RunnerConfig
from numa_bench.config.schemas.output import MlflowConfig, TrackingConfig
from numa_bench.errors import MachineError
from numa_bench.jsonio import read_json, write_json
from numa_bench.redaction import has_credentials, redact_credentials
from numa_bench.runner.study import run_study
from numa_bench.study_files import TRACKING
from numa_bench.study_search import find_studies
from numa_bench.tracking.base import RunView, StudyView
from numa_bench.tracking.command import main as command
from numa_bench.tracking.factory import make_trackers
from numa_bench.tracking.feeder import Feeder
from numa_bench.tracking.mlflow import MlflowTracker
from numa_bench.tracking.mlflow_view import runs_address
from numa_bench.tracking.sync import Syncer
from numa_bench.tracking.view import find_inside, read_study
from tests.conftest import PROJECT
from tests.fake_worker import TOPOLOGY, fake_command, make_plan, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Fake workers by model name."""

    def choose(**behaviours: str) -> None:
        monkeypatch.setattr("numa_bench.runner.worker_run.worker_command", fake_command(behaviours))

    return choose


def mlflow_at(uri: str | None = None, **others: Any) -> TrackingConfig:
    return TrackingConfig(mlflow=MlflowConfig(enabled=True, uri=uri), timeout_s=60.0, **others)


def run_tracked(directory: Path, tracking: TrackingConfig, *models: str, repeats: int = 1) -> None:
    plan = replace(
        make_plan(models, repeats=repeats, root=str(directory.parent)), tracking=tracking
    )
    with contextlib.suppress(Exception):
        run_study(plan, TOPOLOGY, directory)
    assert (directory / "results.json").is_file()


def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(uri: str, experiment: str = "fake") -> tuple[list[Any], list[Any]]:
    """Parents and children of an experiment."""
    api = client(uri)
    found = api.get_experiment_by_name(experiment)
    if found is None:
        return [], []
    runs = api.search_runs([found.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in runs if run not in parents]


def everything(uri: str) -> list[Any]:
    """All that MLflow holds, in a form that can be compared."""
    api = client(uri)
    found = []
    parents, children = runs_of(uri)
    for run in [*parents, *children]:
        history = {
            key: [
                (m.step, m.value, m.timestamp) for m in api.get_metric_history(run.info.run_id, key)
            ]
            for key in run.data.metrics
        }
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.user")}
        found.append((run.info.run_id, run.info.status, run.data.params, tags, history))
    return sorted(found)


@pytest.fixture
def study(tmp_path: Path, fake: Callable[..., None]) -> tuple[Path, str]:
    """A tracked study of three runs, one of which failed; and its MLflow."""
    fake(m0="good", m1="raises", m2="good")
    directory = tmp_path / "outputs" / "study"
    run_tracked(directory, mlflow_at(), "m0", "m1", "m2")
    config = RunnerConfig(tracking=mlflow_at())
    config.experiment.name, config.output.root = "fake", str(directory.parent)
    save_resolved(config, directory)
    return directory, f"sqlite:///{tmp_path}/mlflow.db"


# --- MLflow on SQLite


def test_a_study_is_a_parent_with_a_run_below_it_for_each_run(study: tuple[Path, str]) -> None:
    directory, uri = study
    ((parent,), children) = runs_of(uri)
    records = {r["run_id"]: r for r in read_json(directory / "results.json")}

    assert {run.info.run_name for run in children} == set(records)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.data.metrics["success_rate"] == pytest.approx(2 / 3)
    assert parent.data.tags["mlflow.note.content"].startswith("**fake** on ")
    assert parent.info.status == "FINISHED"
    for run in children:
        record = records[run.info.run_name]
        assert run.data.tags["status"] == record["status"]
        assert run.data.params["vit.name"] == record["vit_name"]
        assert run.data.params["test.batch_size"] == str(record["test_config"]["batch_size"])
        assert (
            run.data.metrics.get("throughput_samples_per_s") == record["throughput_samples_per_s"]
        )
        assert run.info.status == ("FINISHED" if record["success"] else "FAILED")


def test_per_batch_series_are_steps(study: tuple[Path, str]) -> None:
    directory, uri = study
    good = next(r for r in read_json(directory / "results.json") if r["success"])
    samples = read_json(directory / "runs" / good["run_id"] / "result.json")["samples"]
    (run,) = [r for r in runs_of(uri)[1] if r.info.run_name == good["run_id"]]

    history = client(uri).get_metric_history(run.info.run_id, "series/compute_ms")

    assert [(m.step, m.value) for m in history] == list(enumerate(samples["compute_ms"]))


def test_results_and_the_logs_of_failed_runs_are_kept(study: tuple[Path, str]) -> None:
    directory, uri = study
    ((parent,), children) = runs_of(uri)
    api = client(uri)

    assert {f.path for f in api.list_artifacts(parent.info.run_id)} >= {
        "results.json",
        "experiment_summary.json",
        "topology.json",
    }
    kept = {
        run.data.tags["status"]: [f.path for f in api.list_artifacts(run.info.run_id)]
        for run in children
    }
    assert len(kept["failed"]) == 2
    assert kept["passed"] == []
    assert (directory.parent.parent / "mlartifacts").is_dir()


def test_logging_again_changes_nothing(study: tuple[Path, str]) -> None:
    """Also where what was remembered here is lost: runs are found again by their tags."""
    directory, uri = study
    before = everything(uri)
    assert command(["sync", str(directory), "--uri", uri]) == 0
    assert everything(uri) == before

    key = read_json(directory / TRACKING)["key"]
    write_json(directory / TRACKING, {"key": key})
    assert command(["sync", str(directory), "--uri", uri]) == 0

    assert everything(uri) == before


def test_a_resumed_study_continues_its_runs(
    study: tuple[Path, str], fake: Callable[..., None]
) -> None:
    directory, uri = study
    before = {run.info.run_name: run.info.run_id for run in runs_of(uri)[1]}
    fake(m0="good", m1="good", m2="good")

    run_tracked(directory, mlflow_at(), "m0", "m1", "m2")

    ((parent,), children) = runs_of(uri)
    assert {run.info.run_name: run.info.run_id for run in children} == before
    assert parent.data.metrics["success_rate"] == 1
    again = next(run for run in children if run.data.params["vit.name"] == "m1")
    assert (again.data.tags["status"], again.data.tags["attempt"]) == ("passed", "2")
    assert again.info.status == "FINISHED"


def test_figures_of_an_attempt_do_not_stand_among_those_of_the_next(
    study: tuple[Path, str],
) -> None:
    directory, uri = study
    records = read_json(directory / "results.json")
    good = next(r for r in records if r["success"])
    good.update(attempt=2, start_time="2030-01-01T00:00:00.000+00:00", throughput_samples_per_s=7.0)
    write_json(directory / "results.json", records)

    assert command(["sync", str(directory), "--uri", uri]) == 0

    (run,) = [r for r in runs_of(uri)[1] if r.info.run_name == good["run_id"]]
    history = client(uri).get_metric_history(run.info.run_id, "throughput_samples_per_s")
    assert [m.value for m in history] == [7.0]
    assert len(runs_of(uri)[1]) == 3


def test_the_jobs_of_a_sweep_share_a_parent(tmp_path: Path, fake: Callable[..., None]) -> None:
    fake(m0="good")
    sweep = tmp_path / "outputs" / "multirun" / "fake" / "2026-01-31_14-30-15"
    sweep.mkdir(parents=True)
    (sweep / "multirun.yaml").write_text('hydra: {overrides: {task: ["a=1,2"]}}')
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    for job in ("0", "1"):
        run_tracked(sweep / job, mlflow_at(uri), "m0")

    ((parent,), children) = runs_of(uri)
    assert parent.info.run_name == "fake sweep 2026-01-31_14-30-15"
    assert parent.data.metrics["runs_passed"] == 2
    assert parent.data.tags["hydra.overrides"] == "a=1,2"
    assert len(children) == 2


def test_the_jobs_of_a_sweep_over_experiments_share_a_parent(
    tmp_path: Path, fake: Callable[..., None]
) -> None:
    fake(m0="good")
    folders, time = tmp_path / "outputs" / "multirun", "2026-01-31_14-30-15"
    for name in ("mixed", "other"):  # the latter was started in the same second
        (folders / name / time).mkdir(parents=True)
        text = 'hydra: {overrides: {task: ["experiment=first,second"]}}'
        (folders / name / time / "multirun.yaml").write_text(text)
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    run_tracked(folders / "other" / time / "0", mlflow_at(uri), "m0")
    for number, name in enumerate(("first", "second")):
        run_tracked(folders / name / time / str(number), mlflow_at(uri), "m0")

    ((parent,), children) = runs_of(uri, "mixed")
    assert parent.info.run_name == f"mixed sweep {time}"
    assert parent.data.metrics["runs_passed"] == 2
    assert parent.data.tags["hydra.overrides"] == "experiment=first,second"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.data.tags["study"] for run in children] == ["fake", "fake"]
    ((own,), _) = runs_of(uri)
    assert own.data.metrics["runs_passed"] == 1


def test_the_page_of_an_analysis_is_kept_with_the_study(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    directory, uri = study
    made = tmp_path / "analysis"
    (made / "plots").mkdir(parents=True)
    for name in ("report.html", "plots/effects.png"):
        (made / name).write_text("x")

    printed = upload_report(directory, made)

    ((parent,), _) = runs_of(uri)
    kept = {f.path for f in client(uri).list_artifacts(parent.info.run_id, "analysis")}
    assert printed == "tracking  page and plots were logged with the study"
    assert kept == {"analysis/report.html", "analysis/effects.png"}


def test_the_page_of_a_study_that_was_not_tracked_goes_nowhere(tmp_path: Path) -> None:
    assert upload_report(tmp_path, tmp_path) is None


def test_a_tracker_that_does_not_take_the_page_costs_a_line(
    study: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = study
    monkeypatch.setattr(
        "numa_bench.commands.tracker_upload.import_variables",
        lambda _: {"PYTHONPATH": str(tmp_path)},
    )  # nothing can be imported from there
    monkeypatch.chdir(tmp_path)

    printed = upload_report(directory, tmp_path)

    assert str(printed).startswith("tracking  the page was not logged: ")


def test_long_values_and_odd_names_are_handled(study: tuple[Path, str]) -> None:
    directory, _ = study
    uri = f"sqlite:///{directory}/other.db"
    records = read_json(directory / "results.json")
    records[0]["vit_config"]["name"] = "x" * 9000
    records[1]["error"] = "y" * 9000
    write_json(directory / "results.json", records)

    assert command(["sync", str(directory), "--uri", uri]) == 0

    runs = {run.info.run_name: run for run in runs_of(uri)[1]}
    assert len(runs[records[0]["run_id"]].data.params["vit.name"]) == 6000
    assert len(runs[records[1]["run_id"]].data.tags["error"]) == 5000


# --- trackers that fail


class Stub:
    """A tracker that does as configured."""

    name, target = "stub", "nowhere"

    def __init__(self, fails: int = 0, gate: threading.Event | None = None) -> None:
        self.fails = fails
        self.gate = gate
        self.logged: list[str] = []
        self.studies = 0

    def open(self, _: StudyView) -> None:
        if self.gate is not None:
            self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError("http://user:secret@host refused\nat length")

    def log_run(self, _: StudyView, run: RunView) -> None:
        self.logged.append(run.run_id)

    def log_study(self, _: StudyView) -> None:
        self.studies += 1

    def log_files(self, _: StudyView, __: tuple[Path, ...], ___: str) -> None:
        raise NotImplementedError

    def hint(self, _: Path) -> str:
        return "look there"

    def close(self) -> None:
        raise OSError("closing fails too")


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch, fake: Callable[..., None]) -> Callable[..., None]:
    def use(*stubs: Stub) -> None:
        monkeypatch.setattr("numa_bench.runner.study.make_trackers", lambda *_: list(stubs))

    fake(m0="good", m1="good")
    return use


def test_a_tracker_that_raises_costs_one_warning_and_gets_it_later(
    tmp_path: Path, stubbed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Stub(fails=2), Stub()
    good.name = "other"
    stubbed(bad, good)

    run_tracked(tmp_path / "s", TrackingConfig(timeout_s=60.0), "m0", "m1")

    ids = [r["run_id"] for r in read_json(tmp_path / "s" / "results.json")]
    assert good.logged == ids
    assert bad.logged == ids
    printed = [r.getMessage() for r in caplog.records if "stub" in r.getMessage()]
    assert printed == ["stub at nowhere: http://host refused; the study goes on"]


def test_a_tracker_that_hangs_does_not_hang_the_study(
    tmp_path: Path, stubbed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    gate = threading.Event()
    stubbed(Stub(gate=gate))

    run_tracked(tmp_path / "s", TrackingConfig(timeout_s=0.5), "m0", "m1")

    assert len(read_json(tmp_path / "s" / "results.json")) == 2
    printed = capsys.readouterr().out
    assert "2 runs are not in stub yet; later: python -m numa_bench.tracking sync" in printed
    gate.set()


def test_a_required_tracker_that_does_not_work_ends_the_study_before_it_starts(
    tmp_path: Path, stubbed: Callable[..., None]
) -> None:
    stubbed(Stub(fails=9))
    plan = replace(make_plan(["m0"]), tracking=TrackingConfig(required=True))

    with pytest.raises(MachineError, match="stub at nowhere does not work: http://host") as refused:
        run_study(plan, TOPOLOGY, tmp_path / "s")

    assert refused.value.exit_code == 2
    assert read_json(tmp_path / "s" / "results.json") == []


def test_workers_wait_for_what_is_being_logged(tmp_path: Path) -> None:
    import fcntl

    from tests.profiling.test_exports import is_free

    gate, lock = threading.Event(), tmp_path / "lock"
    (tmp_path / "results.json").write_text("[]")
    feeder = Feeder(Syncer(tmp_path, [Stub(gate=gate)], 10, 1.0), lock, 600.0)

    feeder.feed_stored()
    assert not is_free(lock)
    gate.set()

    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the test ends when the lock is free


def test_a_lock_is_let_go_of_even_if_a_tracker_hangs(tmp_path: Path) -> None:
    from tests.profiling.test_exports import is_free

    gate, lock = threading.Event(), tmp_path / "lock"
    (tmp_path / "results.json").write_text("[]")
    feeder = Feeder(Syncer(tmp_path, [Stub(gate=gate)], 10, 1.0), lock, 0.2)

    feeder.feed_stored()

    wait_until(lambda: is_free(lock), "the lock")
    gate.set()


# --- a real server, which dies in the middle


@contextlib.contextmanager
def server(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    directory.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--backend-store-uri", f"sqlite:///{directory}/m.db"),
            *("--artifacts-destination", str(directory / "artifacts"), "--workers", "1"),
        ],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), "the MLflow server", 300)
        yield process
    finally:
        stop(process)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as reply:
        return bool(reply.status == 200)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_study_loses_nothing_to_a_server_that_dies_half_way(
    tmp_path: Path, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    directory = tmp_path / "outputs" / "study"
    fake(m0="good", m1="good", m2="good")
    with server(tmp_path / "server", port) as process:
        real = MlflowTracker.log_run

        def dies(self: MlflowTracker, study: StudyView, run: RunView) -> None:
            real(self, study, run)
            stop(process)

        with monkeypatch.context() as patched:
            patched.setattr(MlflowTracker, "log_run", dies)
            run_tracked(directory, mlflow_at(), "m0", "m1", "m2")
    ids = {r["run_id"] for r in read_json(directory / "results.json")}
    assert len(ids) == 3
    assert {r["status"] for r in read_json(directory / "results.json")} == {"passed"}

    with server(tmp_path / "server", port):
        assert len(runs_of(uri)[1]) == 1
        assert command(["sync", str(directory), "--tracking", "mlflow"]) == 0
        ((parent,), children) = runs_of(uri)
        assert {run.info.run_name for run in children} == ids
        assert parent.data.metrics["success_rate"] == 1
        assert command(["sync", str(directory), "--tracking", "mlflow"]) == 0
        assert len(runs_of(uri)[1]) == 3


# --- W&B and TensorBoard


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline file: LevelDB's log format after a header of 7 bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # padding at the end of a block
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of it, or its last part
            yield whole
            whole = b""


def test_wandb_offline_needs_no_account(
    tmp_path: Path, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    fake(m0="good")
    directory = tmp_path / "outputs" / "fake" / "2026-01-31" / "14-30-15"
    directory.mkdir(parents=True)
    config = TrackingConfig(timeout_s=60.0)
    config.wandb.enabled = True

    run_tracked(directory, config, "m0")

    # Typed as Any: its stub knows the versions of protobuf one by one, and none of ours.
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    found: dict[str, Any] = {"names": set()}
    for path in directory.glob("wandb/offline-run-*/*.wandb"):
        for data in wandb_records(path):
            record = proto.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found["names"].add(record.run.display_name)
                found["group"] = record.run.run_group
            if kind == "summary":
                for item in record.summary.update:
                    found[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    (run,) = read_json(directory / "results.json")
    assert found["names"] == {run["run_id"], "summary"}
    assert found["group"] == "fake 2026-01-31 14-30-15"
    assert found["throughput_samples_per_s"] == run["throughput_samples_per_s"]
    assert found["success_rate"] == 1


def test_tensorboard_reads_back_what_was_written(tmp_path: Path, fake: Callable[..., None]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fake(m0="good")
    directory = tmp_path / "outputs" / "study"
    config = TrackingConfig(timeout_s=60.0)
    config.tensorboard.enabled = True
    run_tracked(directory, config, "m0")
    (run,) = read_json(directory / "results.json")

    events = EventAccumulator(str(directory / "tensorboard" / run["run_id"]))
    events.Reload()
    summary = EventAccumulator(str(directory / "tensorboard" / "summary"))
    summary.Reload()

    scalars = events.Tags()["scalars"]
    assert events.Scalars("throughput_samples_per_s")[0].value == 100.0
    assert len(events.Scalars("series/compute_ms")) == 12
    assert "success_rate" in summary.Tags()["scalars"]
    assert "study/text_summary" in summary.Tags()["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert scalars


# --- what is missing, and secrets


def test_a_package_that_is_missing_is_told_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study: tuple[Path, str], capsys: Any
) -> None:
    directory, _ = study
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)

    assert command(["sync", str(directory), "--uri", f"sqlite:///{tmp_path}/new.db"]) == 2

    assert "pip install mlflow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:pass@host/x", "https://host/x"),
        ("https://token@host", "https://host"),
        ("//user:pass@host/db", "//host/db"),
        ("key=//user:pa/ss@host", "key=//host"),
        ("https://u:p@ss@host/x", "https://host/x"),
        ("postgresql://u:a/bcd@host/db", "postgresql://host/db"),
        ("postgresql://host/db?user=u&password=pw", "postgresql://host/db?user=&password="),
        ("mssql://h/?odbc_connect=Uid%3Du%3BPwd%3Dpw", "mssql://h/?odbc_connect="),
        ("mssql:///?a=1&odbc_connect=X;Pwd%3Dp%20w&b=2", "mssql:///?a=1&odbc_connect=&b=2"),
        ("mssql:///?odbc_connect=%50wd%253Dpw", "mssql:///?odbc_connect="),
        ("http://h/?next=http%3A%2F%2Fu%3Apw%40h", "http://h/?next="),
        ("jdbc:sqlserver://h;user=u;Password=pw;x=1", "jdbc:sqlserver://h;user=u;Password=;x=1"),
        ("s3://h?aws_secret_access_key=pw&x=1", "s3://h?aws_secret_access_key=&x=1"),
        ("s3://h?accessKey=pw", "s3://h?accessKey="),
        ("x://h?sslpassword=pw", "x://h?sslpassword="),
        ("http:/u:pw@host/x", "http:/host/x"),  # as a Path
        ("mssql:///?driver=ODBC+Driver%3B18&max_tokens=5", None),
        ("for i in 1 2; do user=me; echo $i; done", None),
        ("sqlite:////a@b/mlflow.db", "sqlite:////a@b/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_credentials_are_taken_out_of_uris(uri: str, shown: str | None) -> None:
    """None: shown as it is."""
    assert redact_credentials(uri) == (shown or uri)
    assert has_credentials(uri) == (uri != (shown or uri))


def test_credentials_of_the_environment_reach_no_file(
    tmp_path: Path, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()  # nobody listens there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:s3cr3t@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fake(m0="good")
    directory = tmp_path / "outputs" / "study"

    run_tracked(directory, mlflow_at(), "m0")

    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path
    (trackers,) = [make_trackers(mlflow_at(), tmp_path)]
    assert "s3cr3t" not in trackers[0].target + trackers[0].hint(directory)


def test_studies_are_found_below_a_root(tmp_path: Path, study: tuple[Path, str]) -> None:
    directory, _ = study

    assert find_studies(directory, with_runs=True) == [directory]
    assert find_studies(tmp_path, with_runs=True) == [directory]
    assert find_studies(tmp_path / "nothing", with_runs=True) == []
    assert command(["sync", str(tmp_path / "nothing")]) == 2


def test_a_view_reads_files_only(study: tuple[Path, str], tmp_path: Path) -> None:
    """A study that was moved to another machine can be logged there."""
    directory, _ = study
    moved = tmp_path / "elsewhere"
    shutil.copytree(directory, moved)
    before = read_study(directory, points=5, max_file_mb=1)

    view = read_study(moved, points=5, max_file_mb=1)

    assert view.key == before.key
    assert [run.fingerprint for run in view.runs] == [run.fingerprint for run in before.runs]
    assert max(len(points) for run in view.runs for points in run.series.values()) <= 5
    assert view.started_s < time.time()


def test_the_printed_address_is_a_view_of_the_runs_of_the_study(study: tuple[Path, str]) -> None:
    directory, uri = study
    (parent,), children = runs_of(uri)
    experiment = client(uri).get_experiment(parent.info.experiment_id)
    tracker = MlflowTracker(uri, None, directory, 5)

    Syncer(directory, [tracker], 10, 1).connect_tracker(tracker)
    command, address = tracker.hint(directory).split("\n")

    assert command == f"mlflow ui --backend-store-uri {uri} --host 127.0.0.1"
    page, _, key = address.partition("&viewStateShareKey=")
    number = experiment.experiment_id
    assert (
        page == f"http://127.0.0.1:5000/#/experiments/{number}/runs?workflowType=machine_learning"
    )
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    shown = client(uri).search_runs(
        [number], view["searchFilter"], order_by=[f"{view['orderByKey']} DESC"]
    )
    assert {run.info.run_id for run in shown} == {run.info.run_id for run in children}
    assert {"metrics.`throughput_samples_per_s`", "tags.`placement`"} <= set(
        view["selectedColumns"]
    )
    assert "metrics.`read_gb_per_s`" not in view["selectedColumns"]  # no run has it


def test_the_address_on_a_server_and_of_a_study_without_a_view(tmp_path: Path) -> None:
    tracker = MlflowTracker("http://host:5000/", None, tmp_path, 5)
    assert tracker.hint(tmp_path) == "MLflow: http://host:5000/"  # not connected yet

    assert runs_address("http://host:5000/", "7", None) == (
        "http://host:5000/#/experiments/7/runs?workflowType=machine_learning"
    )


@pytest.mark.slow
@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "sqlite"], ids=["dead", "read-only"])
def test_a_tracker_that_does_not_work_is_one_warning(tmp_path: Path, place: str) -> None:
    """In a process of its own: MLflow logs to the stderr that it was imported with."""
    program = f"""
import json, logging
from pathlib import Path
from numa_bench.tracking.feeder import Feeder
from numa_bench.tracking.mlflow import MlflowTracker
from numa_bench.tracking.sync import Syncer
from tests.conftest import PROJECT
from tests.specs import record_of

logging.basicConfig(format="%(levelname)s %(message)s")
study, uri = Path("study"), {place!r}
study.mkdir()
(study / "results.json").write_text(json.dumps([record_of("r0"), record_of("r1")]))
if uri == "sqlite":
    tracker = MlflowTracker("sqlite:///x.db", "e", Path("artifacts"), 2)
    Syncer(study, [tracker], 10, 1).connect_tracker(tracker)
    tracker.close()
    uri = "sqlite:///file:x.db?mode=ro&uri=true"
feeder = Feeder(Syncer(study, [MlflowTracker(uri, "e", Path("artifacts"), 2)], 10, 1),
                study / "lock", 2)
for _ in range(2):
    feeder.feed_stored()
    feeder._thread.join()
print(*feeder.finish_feeding())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )

    (line,) = done.stderr.splitlines()
    assert line.startswith("WARNING mlflow at ")
    assert ("readonly database" if place == "sqlite" else "API request to") in line
    assert line.endswith("; the study goes on")
    assert done.stdout.startswith("2 runs are not in mlflow yet; later: ")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "link", "x" * 5000, "a\0b"], ids=range(5)
)
def test_a_path_in_a_record_sends_no_other_file_to_a_tracker(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "study"
    directory.mkdir()
    (tmp_path / "secret").write_text("s3cret")
    (directory / "link").symlink_to(tmp_path / "secret")
    (directory / "own").write_text("log")

    assert find_inside(directory, name) is None
    assert find_inside(directory, "own") == directory / "own"


@pytest.mark.parametrize("state", [{"places": [], "trackers": 5, "key": 0}, {"trackers": {"a": 1}}])
def test_a_damaged_state_is_started_anew(study: tuple[Path, str], state: Any) -> None:
    directory, uri = study
    (parent,), children = runs_of(uri)
    state = {**state, "key": read_json(directory / TRACKING)["key"]}
    write_json(directory / TRACKING, state)

    assert command(["sync", str(directory), "--uri", uri]) == 0
    (again,), others = runs_of(uri)
    assert again.info.run_id == parent.info.run_id
    assert {run.info.run_id for run in others} == {run.info.run_id for run in children}
