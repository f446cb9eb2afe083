"""The runner as a stranger uses it: real processes, real torch, this machine's own placement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.metric_registry import METRICS
from tests.conftest import PROJECT

TINY = [
    "experiment=quick_test",
    "experiment.hardware.device=cpu",
    "experiment.vit_configs=[{patch_size:32,depth:0},{patch_size:32,depth:1,dim:64}]",
    "experiment.test.image_size=64",
    "experiment.test.batch_size=2",
    "experiment.test.num_samples=40",
    "experiment.test.warmup_samples=4",
    "experiment.test.memory_size_mb=4",
    "experiment.monitor_interval_s=0.1",
    "tracking=none",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed"),
]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROJECT / "hydra_experiment_runner.py", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A tiny study in an empty directory: its own directory, and what was printed."""
    cwd = tmp_path_factory.mktemp("empty")
    done = run(*TINY, cwd=cwd)
    assert done.returncode == 0, done.stderr
    (results,) = cwd.glob("outputs/quick_test/*/*/results.json")
    return results.parent, done.stdout


def test_the_study_leaves_what_the_readme_says(study: tuple[Path, str]) -> None:
    directory, stdout = study
    names = {path.name for path in directory.iterdir()}
    wanted = {"results.json", "experiment_summary.json", "topology.json", "experiment.log"}
    assert names >= wanted | {"runs", "logs", ".hydra"}
    assert "2 passed of 2 planned" in stdout
    assert "vit32x1x64" in stdout
    events = [json.loads(line) for line in (directory / "experiment.log").read_text().splitlines()]
    assert all({"time", "level", "message"} <= set(event) for event in events)


def test_pandas_reads_the_results_as_they_are(study: tuple[Path, str]) -> None:
    frame = pd.read_json(study[0] / "results.json")
    assert (
        frame.groupby("numa_node")["success"].mean().tolist()
        == [1.0] * frame["numa_node"].nunique()
    )
    assert set(METRICS) <= set(frame.columns)
    assert (frame["throughput_samples_per_s"] > 0).all()


def test_every_record_shows_where_its_pages_were(study: tuple[Path, str]) -> None:
    for record in read(study[0] / "results.json"):
        node = str(record["memory_node"])
        if record["observed"]["method"] is None:
            pytest.skip("this kernel has neither move_pages nor numa_maps")
        assert record["placement_fraction"] >= 0.99
        assert record["observed"]["pages"][node] > 0
        assert record["observed"]["policy"] == "bind"


def readings_in_window(run_directory: Path) -> list[float]:
    begin, end = read(run_directory / "result.json")["observed"]["window_monotonic_s"]
    times = read(run_directory / "monitor.json")["monotonic_s"]
    return [moment for moment in times if begin <= moment <= end]


def test_raw_samples_sensors_and_logs_are_kept(study: tuple[Path, str]) -> None:
    directory = study[0]
    for record in read(directory / "results.json"):
        run_directory = directory / "runs" / record["run_id"]
        result = read(run_directory / "result.json")
        assert len(result["samples"]["compute_ms"]) * 2 == record["measured_samples"]
        assert result["warmup_samples"]["compute_ms"]
        assert read(run_directory / "monitor.json")["series"]["memory_available_mb"]
        # The window is a fraction of a second: on a fast machine no reading may fall into it.
        assert (record["monitor"] is None) == (not readings_in_window(run_directory))
        if record["monitor"] is not None:
            assert record["monitor"]["memory_available_mb"]["median"] > 0
        for log in ("stdout_log", "stderr_log"):
            assert not Path(record[log]).is_absolute()
            assert (directory / record[log]).is_file()


def test_the_environment_is_told_and_named_in_every_record(study: tuple[Path, str]) -> None:
    summary = read(study[0] / "experiment_summary.json")
    machine = summary["machine"]
    assert machine["packages"]["torch"]
    assert machine["cpu_model"] is None or machine["cpu_model"]
    assert set(summary["environments"]) == {machine["id"]}
    assert {r["environment"] for r in read(study[0] / "results.json")} == {machine["id"]}
    assert summary["success_rate"] == 1.0


def test_a_study_is_resumed_with_more_repeats_and_marked_by_environment(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(study[0], moved)
    records = read(moved / "results.json")
    for record in records:
        record["environment"] = "00000000"
    (moved / "results.json").write_text(json.dumps(records))
    done = run(f"resume_from={moved}", "experiment.repeats=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "another environment (00000000" in done.stderr
    after = read(moved / "results.json")
    assert sorted(record["repeat"] for record in after) == [0, 0, 1, 1]
    assert [r for r in after if r["repeat"] == 0] == records
    assert not (tmp_path / "outputs").exists()


def test_debug_is_overwritten_each_time(tmp_path: Path) -> None:
    for models in ("[{depth:0}]", "[{depth:1,dim:64}]"):
        done = run(*TINY, "debug=true", f"experiment.vit_configs={models}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (record,) = read(tmp_path / "outputs" / "debug" / "results.json")
    assert record["vit_name"] == "vit32x1x64"
    assert record["measured_samples"] <= 4
    assert len(list((tmp_path / "outputs" / "debug" / "runs").iterdir())) == 1


def test_a_sweep_runs_every_job(tmp_path: Path) -> None:
    one = "experiment.vit_configs=[{patch_size:32,depth:0}]"
    done = run("-m", *TINY, one, "experiment.test.batch_size=1,4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = sorted(tmp_path.glob("outputs/multirun/quick_test/*/*/results.json"))
    assert [path.parent.name for path in jobs] == ["0", "1"]
    assert [read(path)[0]["test_config"]["batch_size"] for path in jobs] == [1, 4]


def test_a_new_study_does_not_go_into_the_directory_of_another(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    before = read(study[0] / "results.json")
    done = run(*TINY, f"hydra.run.dir={study[0]}", cwd=tmp_path)
    assert done.returncode == 2
    assert "already holds a study" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert read(study[0] / "results.json") == before


def test_resuming_does_not_change_what_was_measured(
    study: tuple[Path, str], tmp_path: Path
) -> None:
    saved = (study[0] / ".hydra" / "config_resolved.yaml").read_text()
    done = run(f"resume_from={study[0]}", "experiment.test.batch_size=4", cwd=tmp_path)
    assert done.returncode == 2
    assert "experiment.test.batch_size=4 changes what" in done.stderr
    assert (study[0] / ".hydra" / "config_resolved.yaml").read_text() == saved


@pytest.mark.parametrize("mode", [(), ("-m",)])
def test_an_output_root_that_cannot_be_made_is_one_line(
    mode: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = run(*mode, *TINY, f"output.root={tmp_path / 'file' / 'x'}", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "output.root" in done.stderr
