"""Signals at random moments of a study of real workers, under every profiler and every tracker.

CI runs two cases. All sixty, each so many times:
NUMA_BENCH_SIGNAL_MATRIX=1 python -m pytest tests/faults/test_signal_matrix.py
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.study_files import TRACKING, read_records
from tests.conftest import NSYS, PROJECT, RUNNER
from tests.fake_worker import carriers, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MOMENTS = int(os.environ.get("NUMA_BENCH_SIGNAL_MATRIX", "0"))
#: Signals, one after the other, and the exit codes of a study that they found.
ENDINGS = {
    "INT": ((signal.SIGINT,), {130, -signal.SIGINT}),
    "INT INT": ((signal.SIGINT, signal.SIGINT), {130, -signal.SIGINT}),
    "TERM": ((signal.SIGTERM,), {130, -signal.SIGTERM}),
    "HUP": ((signal.SIGHUP,), {130, -signal.SIGHUP}),
    "KILL": ((signal.SIGKILL,), {-signal.SIGKILL}),
}
PROFILERS, TRACKERS = ("none", "nsys", "torch"), ("none", "mlflow", "tensorboard", "wandb")
FEW = (("TERM", "nsys", "mlflow"), ("KILL", "torch", "tensorboard"))
CASES = tuple(itertools.product(ENDINGS, PROFILERS, TRACKERS)) if MOMENTS else FEW
#: About how long such a study takes.
SPAN_S = 12.0
STUDY = (
    "experiment=quick_test",
    "experiment.vit_configs=[{depth: 0}, {patch_size: 32, depth: 1, dim: 64}]",
    "experiment.test.batch_size=1",
    "experiment.test.time_budget_s=0.2",
    "experiment.test.warmup_budget_s=0.1",
    "output.grace_s=20",
)


class Study:
    """A study of real workers in a folder of its own, temporary files included."""

    def __init__(self, folder: Path, profiler: str, tracker: str) -> None:
        self._folder = folder
        self._words = (f"profiler={profiler}", f"tracking={tracker}")
        self.directory = folder / "outputs" / "study"
        self.temporary = folder / "temporary"
        self.temporary.mkdir(parents=True)
        self.mark = f"NUMA_BENCH_TEST={uuid.uuid4().hex}"

    def start(self) -> subprocess.Popen[str]:
        name, _, value = self.mark.partition("=")
        env = {
            **os.environ,
            name: value,
            "TMPDIR": str(self.temporary),
            "NSYS": str(NSYS),
            "NUMA_BENCH_LOCKS": str(self._folder / "locks"),
            "WANDB_MODE": "offline",
        }
        return subprocess.Popen(
            [sys.executable, str(RUNNER), *self._line()],
            cwd=PROJECT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _line(self) -> tuple[str, ...]:
        if (self.directory / "results.json").exists():
            return (f"resume_from={self.directory}",)
        root = f"output.root={self._folder / 'outputs'}"
        return (*STUDY, *self._words, root, f"hydra.run.dir={self.directory}")

    def records(self) -> dict[str, Any]:
        """What a reader finds by run; nothing before the study began."""
        path = self.directory / "results.json"
        return {r["run_id"]: dict(r) for r in read_records(path)} if path.exists() else {}

    def has_no_process(self) -> bool:
        return carriers(self.mark) == []

    def clear(self) -> None:
        for pid in carriers(self.mark):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def make_study(tmp_path: Path) -> Iterator[Callable[[str, str], Study]]:
    studies: list[Study] = []

    def make(profiler: str, tracker: str) -> Study:
        if profiler == "nsys" and NSYS is None:
            pytest.skip("no nsys here")
        if tracker != "none" and find_spec(tracker) is None:
            pytest.skip(f"{tracker} is not installed")
        studies.append(Study(tmp_path / str(len(studies)), profiler, tracker))
        return studies[-1]

    yield make
    for study in studies:
        study.clear()


@pytest.mark.parametrize(
    ("ending", "profiler", "tracker"), CASES, ids=[" ".join(case) for case in CASES]
)
def test_a_study_that_gets_a_signal_is_finished_with_every_run_once(
    make_study: Callable[[str, str], Study],
    ending: str,
    profiler: str,
    tracker: str,
) -> None:
    rng = random.Random(f"{ending} {profiler} {tracker}")
    for _ in range(max(1, MOMENTS)):
        study = make_study(profiler, tracker)
        moment = rng.uniform(0, SPAN_S)
        signals, codes = ENDINGS[ending]
        process = study.start()
        with process:
            for number in signals:
                time.sleep(moment)  # the moment is what is tested; nothing waits for it
                process.send_signal(number)
                moment = rng.uniform(0, 0.5)
            output, _ = process.communicate()
        assert process.returncode in codes | {0}, (moment, process.returncode, output)
        assert "Traceback" not in output, (moment, output)
        wait_until(study.has_no_process, "no process is left")
        kept = {run: r for run, r in study.records().items() if r["status"] == "passed"}

        with study.start() as process:
            output, _ = process.communicate()

        assert process.returncode == 0, (moment, output)
        check_complete(study, profiler, tracker)
        assert {run: study.records()[run] for run in kept} == kept


def check_complete(study: Study, profiler: str, tracker: str) -> None:
    """Every run is stored, profiled and logged once, and nothing else remains."""
    records = study.records()
    summary = read_json(study.directory / "experiment_summary.json")
    assert sorted(records) == sorted(summary["run_order"])
    assert {record["status"] for record in records.values()} == {"passed"}
    assert {record["profiler"] for record in records.values()} == {profiler}
    if tracker != "none":
        (logged,) = read_json(study.directory / TRACKING)["trackers"].values()
        assert sorted(logged["runs"]) == sorted(records)
    if tracker == "mlflow":
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{study.directory.parent.parent / 'mlflow.db'}")
        (experiment,) = [e for e in client.search_experiments() if e.name == "quick_test"]
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(r.info.run_name for r in runs if "mlflow.parentRunId" in r.data.tags) == (
            sorted(records)
        )
        assert {run.info.status for run in runs} == {"FINISHED"}
    assert study.has_no_process()
    # The cache of torch's compiler is torch's; W&B makes directories, which it cannot remove when
    # it is killed.
    left = [p.name for p in study.temporary.iterdir()]
    assert [name for name in left if not re.search("^torchinductor_|wandb-[a-z]+$", name)] == []
    assert list(study.directory.rglob("*.tmp")) == []
