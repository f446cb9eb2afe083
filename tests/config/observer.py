"""Observe what a setting changes: plan, command lines, directories, records, output."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from numa_bench.config.hydra.overrides import to_dotted_key
from numa_bench.config.loading import discover_machine, load_config, save_resolved
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import StudyFailed
from numa_bench.isolation.lock_files import Patience, take_lock
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.profiling.launch import find_profiler
from numa_bench.records import RunSpec
from numa_bench.runner.command import worker_command
from numa_bench.runner.monitor import Monitor
from numa_bench.runner.process import Command, Ended
from numa_bench.runner.study import run_study
from numa_bench.store import StudyStore
from numa_bench.study_files import RESULTS
from numa_bench.tracking.factory import make_trackers
from tests.conftest import without_hydra
from tests.fake_sysfs import FakeNode, build_tree
from tests.machines import server

Composes = Callable[..., DictConfig]


BASE = (
    "experiment.vit_configs=[{depth: 2, dim: 512}, {depth: 4, dim: 512}]",
    "experiment.repeats=2",
)


def study_with(config: RunnerConfig, directory: Path) -> Path:
    """A study directory that can be resumed."""
    save_resolved(config, directory)
    (directory / RESULTS).write_text("[]")
    return directory


class Fed:
    """Stands in for a feeder and records its calls."""

    def __init__(self, made: list[Any], limit_s: float) -> None:
        self.made = made
        made.append(limit_s)

    def require_trackers(self) -> None:
        self.made.append("required")

    def feed_stored(self) -> None:
        pass

    def finish_feeding(self) -> list[str]:
        return []


class Observer:
    """What a command line does, seen from one side at a time."""

    def __init__(
        self,
        compose_node: Composes,
        runner: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        directory: Path,
    ) -> None:
        self.compose_node = compose_node
        self.runner = runner
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        self.directory = directory
        self.graces: list[float] = []
        self.intervals: list[float] = []
        self.studies = 0
        self.exports: list[str] = []
        self.locks: list[tuple[str, bool, bool]] = []
        monkeypatch.setattr("numa_bench.profiling.nsys.find_nsys", lambda name: f"/fake/{name}")
        monkeypatch.setattr("numa_bench.profiling.nsys.read_version", lambda _: "2099.1")
        monkeypatch.setattr("numa_bench.runner.study.Exporter", lambda *_: self)
        monkeypatch.setattr("numa_bench.runner.worker_run.run_process", self.fail)
        monkeypatch.setattr(
            "numa_bench.runner.study.Feeder", lambda _, __, limit, *___: Fed([], limit)
        )
        monkeypatch.setattr("numa_bench.runner.worker_run.Monitor", self.monitor)
        monkeypatch.setattr("numa_bench.isolation.host_locks.take_lock", self.take_lock)

    def __call__(self, overrides: tuple[str, ...], effect: str) -> Any:
        """The effect of these overrides on top of BASE."""
        typed = self.filled((*BASE, *overrides))
        if effect == "directory":
            directory = str(self.compose_node(*typed).hydra.run.dir)
            return re.sub(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", "NOW", directory)
        if effect == "started":
            return len(self.runner(*typed, machine=server()).studies)
        if effect == "printed":
            options_first = sorted(typed, key=lambda word: not word.startswith("-"))
            out = self.runner(*options_first, machine=server())
            assert out.code == 0, out.stderr
            return out.stdout
        if effect == "runs":
            return [run.to_dict() for run in self.planned(typed)[0].runs]
        if effect == "profile":
            return self.profiled(typed)
        if effect == "trackers":
            return self.tracked(typed)
        return self.studied(typed)[effect]

    def profiled(self, overrides: list[str]) -> list[Any]:
        """The command lines and environments of the runs, and the profiler in their specs."""
        plan, _ = self.planned(overrides)
        paths = StudyStore(Path("/study")).run_paths("a")
        environ = {"PATH": "/bin", "MINE": "1"}
        commands = [
            worker_command(run, paths, environ, "token-1", plan.profiler, Path("/private"))
            for run in plan.runs
        ]
        return [(c.argv, c.env, run.profile) for c, run in zip(commands, plan.runs, strict=True)]

    def tracked(self, overrides: list[str]) -> Any:
        """What trackers a study would feed, with what."""
        plan, machine = self.planned(overrides)
        made: list[Any] = []
        everything = copy.deepcopy(plan.tracking)
        for kind in ("mlflow", "wandb", "tensorboard"):
            getattr(everything, kind).enabled = True
        settings = [vars(tracker) for tracker in make_trackers(everything, Path("outputs"))]
        self.monkeypatch.setattr(
            "numa_bench.runner.study.Syncer", lambda *given: made.append(given[1:])
        )
        self.monkeypatch.setattr(
            "numa_bench.runner.study.Feeder", lambda _, __, limit, *___: Fed(made, limit)
        )
        self.studies += 1
        with pytest.raises(StudyFailed):
            run_study(plan, machine, self.directory / f"tracked{self.studies}")
        (trackers, *limits), *rest = made
        return [tracker.name for tracker in trackers], settings, limits, rest

    def start_export(self, run_id: str, _: Path, __: Path) -> None:
        """In place of an export."""
        self.exports.append(run_id)

    def collect_export(self) -> None:
        """In place of waiting for an export."""

    def filled(self, overrides: tuple[str, ...]) -> list[str]:
        """Overrides with the paths of a machine and of a study, made when they are asked for."""
        tree, study = self.directory / "tree", self.directory / "study"
        if "topology_root={tree}" in overrides:
            build_tree(tree, [FakeNode(5, "0-3")])
        if "resume_from={study}" in overrides:
            node = without_hydra(self.compose_node("experiment=quick_test"))
            study_with(load_config(node, []), study)
        return [o.replace("{tree}", str(tree)).replace("{study}", str(study)) for o in overrides]

    def planned(self, overrides: list[str]) -> tuple[Plan, Topology]:
        """The plan for the server, or for the machine that the overrides name."""
        node = without_hydra(self.compose_node(*overrides))
        config = load_config(node, [to_dotted_key(override) for override in overrides])
        machine, visible = server(), server().gpus
        if config.topology_root is not None:
            machine, visible = discover_machine(config.topology_root)
        profiler = find_profiler(config.profiler, probe=False)
        return build_plan(config, machine, visible, profiler=profiler), machine

    def studied(self, overrides: list[str]) -> dict[str, Any]:
        """What a study does whose runs all fail."""
        # One process for each run: what fails is not recorded by a second one.
        whole = ["experiment.hardware.gpu_ids=0", "profiler.capture=run"]
        plan, machine = self.planned([*overrides, *whole])
        self.studies += 1
        directory = self.directory / f"done{self.studies}"
        self.graces.clear()
        self.intervals.clear()
        self.exports.clear()
        self.locks.clear()
        self.capsys.readouterr()
        with pytest.raises(StudyFailed):
            run_study(plan, machine, directory)
        records = json.loads((directory / RESULTS).read_text())
        shown = self.capsys.readouterr().err.replace(directory.name, "")
        return {
            "grace": set(self.graces),
            "monitor": set(self.intervals),
            "exports": list(self.exports),
            "isolation": list(self.locks),
            "error": {record["error"] for record in records},
            "shown": re.sub(r"[\d:.,-]+", "", shown),
        }

    def take_lock(self, path: Path, patience: Patience, *, shared: bool) -> int:
        """Take a lock, and note which, how, and whether there is a limit of waiting."""
        self.locks.append((str(path), shared, math.isfinite(patience.until)))
        return take_lock(path, patience, shared=shared)

    def monitor(
        self, spec: RunSpec, path: Path, interval_s: float, pid_file: Path | None = None
    ) -> Monitor:
        """A monitor that is never started, whose interval is noted."""
        self.intervals.append(interval_s)
        return Monitor(spec, path, interval_s, pid_file=pid_file)

    def fail(self, command: Command, _: Path, stderr: Path, **settings: Any) -> Ended:
        """In place of a run; nsys leaves a report."""
        for word in command.argv:
            if word.startswith("--output="):
                Path(word.removeprefix("--output=")).touch()
        self.graces.append(settings["grace_s"])
        stderr.write_text("first\nsecond\nthird\n")
        return Ended(1, "exited", 0.5)
