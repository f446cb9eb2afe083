"""Rooms: imports run downwards only, the worker stays small, and importing probes nothing."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import PROJECT, RUNNER

PACKAGE = PROJECT / "numa_bench"
#: Rooms from the top floor down. A room may import only rooms after it.
FLOORS = (
    *(
        "cli",
        "commands",
        "selftest",
        "sweep",
        "runner",
        "analysis",
        "plan",
        "tracking",
        "profiling",
        "isolation",
        "config",
    ),
    *("worker", "machine", "ground"),
)
#: The same for the rooms of the analysis; its settings, which its application reads, come first.
ANALYSIS_FLOORS = (
    *(
        "settings",
        "report",
        "study_analysis",
        "advice",
        "questions",
        "plots",
        "stats",
        "profiles",
        "read",
    ),
)
#: Modules beside the ground floor that belong to a room above, and folders that belong to it.
THIN = {
    "cli": "cli",
    "__main__": "cli",
    "topology": "machine",
    "records": "ground",
    "terminal": "ground",
}
HEAVY = {"nvtx", "torch", "mlflow", "pandas", "vit_pytorch", "wandb", "matplotlib", "scipy"}
#: What neither the worker nor anything that it imports may load.
NOT_IN_WORKER = {"hydra", "omegaconf", "mlflow", "pandas", "filelock", "rich", "yaml"}


def module_name(path: Path) -> str:
    """The dotted name of a file below the project, a package's __init__ as the package."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    """The room of a module of numa_bench."""
    parts = module.split(".")
    if len(parts) == 1:
        return "ground"
    return THIN.get(parts[1], parts[1] if (PACKAGE / parts[1]).is_dir() else "ground")


def analysis_room_of(module: str) -> str:
    """The room of a module of numa_bench.analysis; its package itself is above all rooms."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 else "analysis"


@cache
def imported_anywhere(path: Path) -> frozenset[str]:
    """Everything that a file imports at any place: inside functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = names & set(MODULES)
            found |= modules or {node.module}
    return frozenset(found)


def closure(start: str) -> set[str]:
    """Modules of numa_bench that `start` can come to import, lazily or not."""
    todo, found = [start], {start}
    while todo:
        for name in imported_anywhere(MODULES[todo.pop()]) & set(MODULES):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def edges() -> dict[tuple[str, str], list[str]]:
    """Arrows between rooms, each with the imports that make it."""
    found = defaultdict(list)
    for module, path in MODULES.items():
        for name in imported_anywhere(path) & set(MODULES):
            pair = room_of(module), room_of(name)
            if pair[0] != pair[1]:
                found[pair].append(f"{module} imports {name}")
    return found


def load(code: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd or PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(*modules: str) -> set[str]:
    """What importing some modules really loads."""
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    return set(json.loads(load(code, *modules)))


def reached(modules: set[str], wanted: set[str]) -> set[str]:
    """Those of `wanted` that are among the modules, themselves or by a part of them."""
    return {name for name in wanted for m in modules if m == name or m.startswith(f"{name}.")}


def test_every_module_has_a_room() -> None:
    assert {room_of(module) for module in MODULES} <= set(FLOORS)
    # The walk sees every folder: a test that looks at the top folder alone sees a fifth of it.
    assert len(MODULES) > 100
    assert "numa_bench.analysis.report.page" in MODULES
    assert "numa_bench.tracking.sync" in MODULES


@pytest.mark.slow
def test_imports_between_rooms_run_downwards() -> None:
    upwards = [
        line
        for (above, below), lines in edges().items()
        if FLOORS.index(above) > FLOORS.index(below)
        for line in lines
    ]

    assert upwards == []


def test_imports_between_rooms_of_the_analysis_run_downwards() -> None:
    upwards = []
    for module, path in MODULES.items():
        if not module.startswith("numa_bench.analysis."):
            continue
        room = analysis_room_of(module)
        for name in imported_anywhere(path) & set(MODULES):
            if not name.startswith("numa_bench.analysis."):
                continue
            other = analysis_room_of(name)
            if ANALYSIS_FLOORS.index(room) > ANALYSIS_FLOORS.index(other):
                upwards.append(f"{module} imports {name}")

    assert upwards == []


def test_the_analysis_reads_files_only() -> None:
    """Of the runner's side it uses the ground floor, the machine's model and the config room."""
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module.startswith("numa_bench.analysis")
        for name in imported_anywhere(path) & set(MODULES)
        if room_of(name) not in ("analysis", "ground", "config")
        and name != "numa_bench.machine.model"
    ]

    assert wrong == []


def test_the_documented_arrows_are_those_of_the_code() -> None:
    """docs/architecture.md lists each room with the rooms that it imports."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/?` \|[^|]*\| ([^|]*) \|$", text, re.M)
    documented = {
        (room, other)
        for room, others in rows
        if room in FLOORS
        for other in re.findall(r"\w+", others)
    }

    assert {room for room, _ in rows} >= {r for r in FLOORS if r != "ground"}
    assert documented == set(edges())


def test_the_documented_arrows_inside_the_analysis_are_those_of_the_code() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    section = text.partition("Inside the analysis")[2].partition("\n\nWhat may load")[0]
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|[^|]*\|([^|]*)\|$", section, re.M)
    documented = {(room, other) for room, others in rows for other in re.findall(r"\w+", others)}

    arrows = set()
    for module, path in MODULES.items():
        if module.startswith("numa_bench.analysis."):
            for name in imported_anywhere(path) & set(MODULES):
                if name.startswith("numa_bench.analysis."):
                    arrows.add((analysis_room_of(module), analysis_room_of(name)))

    assert [room for room, _ in rows] == list(ANALYSIS_FLOORS)
    assert documented == {(above, below) for above, below in arrows if above != below}


def test_no_folder_is_crowded() -> None:
    """A newcomer finds the way by folders: at most 15 modules in each."""
    counts: dict[Path, int] = defaultdict(int)
    for path in MODULES.values():
        if path.name != "__init__.py":
            counts[path.parent] += 1

    assert {str(folder): n for folder, n in counts.items() if n > 15} == {}


@pytest.mark.parametrize(
    "room", sorted(path.parent for path in PACKAGE.rglob("__init__.py")), ids=lambda p: p.name
)
def test_a_room_says_its_job_first(room: Path) -> None:
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text()))


@pytest.mark.slow
def test_the_worker_and_all_it_imports_know_nothing_of_the_runner() -> None:
    """Its whole closure, what it imports inside functions included."""
    modules = closure("numa_bench.worker.__main__")
    assert {"numa_bench.worker.models", "numa_bench.worker.pipelines.cuda_pipeline"} <= modules
    assert {room_of(name) for name in modules} <= {"worker", "machine", "ground"}
    assert not modules & {"numa_bench.store", "numa_bench.study_files"}

    loaded = loaded_by(*modules - {"numa_bench.worker.__main__"})

    assert "torch" in loaded
    assert reached(loaded, NOT_IN_WORKER) == set()


def test_the_workers_sources_name_nothing_of_the_runner() -> None:
    """Also where an import is in a function that no test happens to call."""
    for module in closure("numa_bench.worker.__main__"):
        named = reached(set(imported_anywhere(MODULES[module])), NOT_IN_WORKER)
        assert named == set(), f"{module} imports {named}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("numa_bench.runner.process", {"hydra", "omegaconf", *HEAVY}),
        ("numa_bench.runner.outcome", {"hydra", "omegaconf", *HEAVY}),
        ("numa_bench.analysis", {"psutil", "torch", "matplotlib", "hydra"}),
        ("numa_bench.analysis.read.runs", {"psutil", "torch", "matplotlib", "hydra"}),
        ("numa_bench.cli", {"hydra", "pandas", "psutil", "rich", *HEAVY}),
    ],
)
def test_importing_a_module_loads_no_more_than_it_needs(module: str, unwanted: set[str]) -> None:
    assert reached(loaded_by(module), unwanted) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job"],
        ["--help"],
        ["dry_run=true"],
        ["experiment.repeats=0"],
    ],
    ids=" ".join,
)
def test_the_runner_imports_nothing_heavy_before_it_runs(
    arguments: list[str], tmp_path: Path
) -> None:
    code = (
        "import json, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "open('modules.json', 'w').write(json.dumps(sorted(sys.modules)))"
    )

    load(code, str(RUNNER), *arguments, cwd=tmp_path)

    loaded = set(json.loads((tmp_path / "modules.json").read_text()))
    assert "numa_bench.config.hydra.app" in loaded
    assert reached(loaded, HEAVY) == set()


_AUDIT = r"""
import importlib, json, sys, sysconfig
package, modules = sys.argv[1], sys.argv[2:]
standard = sysconfig.get_paths()["stdlib"]
seen = []

def owner():
    # Who asked: the nearest file above the standard library. A module that is being imported
    # answers for itself, not for its importer.
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return ""
        if "site-packages" in name or not name.startswith((standard, "<")):
            return name
        frame = frame.f_back
    return ""

def hook(event, arguments):
    watched = event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                        "ctypes.dlopen", "socket.connect", "os.listdir", "os.scandir")
    if event == "open":
        watched = not str(arguments[0]).endswith((".py", ".pyc"))
    if watched and owner().startswith(package):
        seen.append([event, str(arguments[0]), owner()])

sys.addaudithook(hook)
for name in modules:
    importlib.import_module(name)
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_importing_probes_nothing() -> None:
    """No process, no file, no library, no directory is opened by a module of ours."""
    assert json.loads(load(_AUDIT, str(PACKAGE), *MODULES)) == []


def test_the_probe_above_would_be_seen(tmp_path: Path) -> None:
    """The audit hook is worth what it finds: here is a module that does probe."""
    (tmp_path / "numa_bench").mkdir()
    # Without it, a numa_bench that PYTHONPATH names or that is installed would come first.
    (tmp_path / "numa_bench" / "__init__.py").touch()
    (tmp_path / "numa_bench" / "probing.py").write_text(
        "import subprocess\nopen('/proc/cpuinfo').close()\nsubprocess.run(['true'])\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + _AUDIT

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "numa_bench.probing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    events = {event for event, _, __ in json.loads(done.stdout)}
    assert {"open", "subprocess.Popen"} <= events


def test_only_modules_that_measure_import_torch() -> None:
    """And none imports NVML unasked: torch itself imports pynvml."""
    others = [
        name
        for name in MODULES
        if room_of(name) not in ("worker", "analysis", "commands", "selftest")
    ]

    assert reached(loaded_by(*others), {"pynvml", *HEAVY}) == set()


def test_pure_modules_stay_pure() -> None:
    """Plans are made without a process, a socket or a clock."""
    pure = ("plan.plan", "plan.placements", "plan.devices", "config.validation")
    for module in (
        *pure,
        "config.hydra.overrides",
        "runner.display.cell_rows",
        "records.workload",
        "marks",
    ):
        named = imported_anywhere(MODULES[f"numa_bench.{module}"])
        assert not named & {"subprocess", "os", "socket", "time", "shutil", "pynvml", "psutil"}
