"""Fixtures: composed configurations, and the runner's command line inside this process."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf

from numa_bench.config.hydra import app as hydra_app
from numa_bench.config.hydra.overrides import find_touched_models, to_dotted_key
from numa_bench.config.loading import load_config
from numa_bench.config.schema import RunnerConfig
from numa_bench.machine.allocation import read_allocation
from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import Topology
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.profiling import nsys
from tests.machines import laptop
from tests.simulation.machine import SimulatedMachine
from tests.simulation.numactl_shim import BINDING

# Workers of xdist inherit this process's environment, in which NSYS is replaced below.
os.environ.setdefault("TESTS_NSYS", os.environ.get("NSYS") or "nsys")
#: nsys as a user of this machine would get it; None where there is none.
NSYS = nsys.find_nsys(os.environ["TESTS_NSYS"])
# Only the tests of the profiler run anything under it.
os.environ["NSYS"] = "/no/nsys/here"
# Under coverage OmegaConf chains its errors in another way (omegaconf/_utils.py, _raise).
os.environ["OC_CAUSE"] = "0"
# A job that a shell starts in the background ignores Ctrl-C, and so does all that the job starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Cases of hypothesis take longer on a busy machine, and no test is about that.
settings.register_profile("numa_bench", deadline=None)
settings.load_profile("numa_bench")
PROJECT = Path(__file__).resolve().parent.parent
RUNNER = PROJECT / "hydra_experiment_runner.py"


def pytest_xdist_auto_num_workers() -> int:
    """Processes for `-n auto`: every CPU this one may use, but 2 at least and 8 at most.

    Some tests wait more than they compute, and each process loads torch.
    """
    return min(max(len(os.sched_getaffinity(0)), 2), 8)


@pytest.fixture(autouse=True)
def _no_full_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the collection before each window of a worker in this process.

    Beside the objects of all tests each takes most of a second, several times a run.
    """
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a study of another test process, or of a user."""
    monkeypatch.setenv("NUMA_BENCH_LOCKS", str(tmp_path_factory.getbasetemp() / "locks"))


@dataclass(frozen=True)
class Outcome:
    """How a command line ended, what it printed, and the plans it would have run."""

    code: int
    stdout: str
    stderr: str
    studies: list[Plan]

    @property
    def error(self) -> str:
        """The one line that a refused command line leaves on stderr."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: "), self.stderr
        return lines[0].removeprefix("error: ")


_composed: dict[tuple[str, ...], DictConfig] = {}


@pytest.fixture
def compose_node() -> Iterator[Callable[..., DictConfig]]:
    """Compose overrides as typed on the command line into Hydra's node, `hydra` included.

    What files give is composed once; single settings are put on top as Hydra itself does it.
    """
    hydra_app.register_hydra()

    def composed(*overrides: str) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides([to_dotted_key(o) for o in overrides])
        single = [
            o
            for o in parsed
            if o.type is OverrideType.CHANGE
            and "." in o.key_or_group
            and not o.key_or_group.startswith("hydra.")
        ]
        of_files = tuple(str(o.input_line) for o in parsed if o not in single)
        if of_files not in _composed:
            with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
                _composed[of_files] = compose("config", list(of_files), return_hydra_config=True)
        node = copy.deepcopy(_composed[of_files])
        for override in single:
            OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
        return node

    yield composed
    GlobalHydra.instance().clear()


@pytest.fixture
def load(compose_node: Callable[..., DictConfig]) -> Callable[..., RunnerConfig]:
    """Compose and validate overrides as typed on the command line."""

    def loaded(*overrides: str) -> RunnerConfig:
        node = without_hydra(compose_node(*overrides))
        return load_config(node, [to_dotted_key(o) for o in overrides])

    return loaded


@pytest.fixture
def plan(load: Callable[..., RunnerConfig]) -> Callable[..., Plan]:
    """Plan overrides for a machine whose GPUs are all visible."""

    def planned(machine: Topology, *overrides: str) -> Plan:
        touched = find_touched_models(to_dotted_key(o) for o in overrides)
        return build_plan(load(*overrides), machine, machine.gpus, touched)

    return planned


@pytest.fixture
def simulate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[SimulatedMachine], None]]:
    """Put a simulated machine in place of this one, here and in processes that are started."""

    def installed(machine: SimulatedMachine) -> None:
        directory = tmp_path / "machine"
        directory.mkdir()
        for name, value in machine.install(directory).items():
            monkeypatch.setenv(name, value)
        for name in ("CUDA_VISIBLE_DEVICES", BINDING):
            monkeypatch.delenv(name, raising=False)
        current_backend.cache_clear()

    yield installed
    current_backend.cache_clear()


def without_hydra(node: DictConfig) -> DictConfig:
    """The part of a composed node that the application gets."""
    plain = node.copy()
    plain._set_flag(["struct", "readonly"], [False, False])
    del plain["hydra"]
    return plain


@contextlib.contextmanager
def restore_hydra_and_logging() -> Iterator[None]:
    """Undo what a program's entry point changes in this process: log handlers, Hydra's state."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    HydraConfig.instance().cfg = None


@pytest.fixture
def runner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Run hydra_experiment_runner.py as a program in this process, in an empty directory.

    It finds the given machine instead of this one, and a study that it would start is only noted.
    """
    studies: list[Plan] = []

    def note(
        plan: Plan,
        _: Topology,
        __: Path,
        opened: Callable[[], None],
        started: Callable[[], None],
    ) -> None:
        studies.append(plan)
        opened()
        started()

    monkeypatch.setattr("numa_bench.runner.study.run_study", note)
    # Jobs of sweeps run in this process too.
    monkeypatch.setattr("numa_bench.commands.run.replace_launchers", contextlib.nullcontext)
    monkeypatch.setattr("numa_bench.commands.run.check_binding", lambda _: None)
    monkeypatch.setattr("numa_bench.commands.run.check_gpus", lambda _: None)
    # run_app sets this variable; it gets its value back.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("NUMA_BENCH_OWN_ERRORS", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, machine: Topology | None = None) -> Outcome:
        found = machine or laptop()
        monkeypatch.setattr("numa_bench.config.loading.discover_topology", lambda: found)
        # Its CPUs and nodes are not this host's; only the environment can take a part away.
        monkeypatch.setattr(
            "numa_bench.config.loading.read_allocation",
            lambda topology: read_allocation(topology, None, range(4096), "no limits", 4096.0),
        )
        studies.clear()
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [str(RUNNER), *arguments])
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(RUNNER), run_name="__main__")
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        code = ended.value.code
        return Outcome(int(code or 0), printed.out, printed.err, list(studies))

    with restore_hydra_and_logging():
        yield run
