"""Who imports what: the worker knows nothing of the runner, and importing looks at nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, RUNNER

PACKAGE = PROJECT / "numa_bench"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
#: What the worker may not reach, and what the runner needs only when it runs something.
RUNNERS = {
    "hydra",
    "omegaconf",
    "mlflow",
    "pandas",
    "filelock",
    "rich",
    "numa_bench.config.schema",
    "numa_bench.runner.process",
    "numa_bench.runner.study",
    "numa_bench.store",
    "numa_bench.plan.plan",
    "analysis",
}
HEAVY = {"nvtx", "torch", "mlflow", "pandas", "vit_pytorch", "wandb", "matplotlib", "scipy"}


def python(code: str, *arguments: str, cwd: Path | None = None) -> str:
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


def reached(modules: list[str], forbidden: set[str]) -> set[str]:
    """Those of `forbidden` that are loaded, themselves or by a part of them."""
    return {name for name in forbidden for m in modules if m == name or m.startswith(f"{name}.")}


def imported_anywhere(path: Path) -> set[str]:
    """Modules that a file imports at any place, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def closure(start: str) -> set[str]:
    """Modules of numa_bench that `start` can come to import, lazily or not."""
    todo, found = [start], {start}
    while todo:
        for name in imported_anywhere(PACKAGE / f"{todo.pop()}.py"):
            stem = name.removeprefix("numa_bench.").partition(".")[0]
            if name.startswith("numa_bench.") and stem in MODULES and stem not in found:
                found.add(stem)
                todo.append(stem)
    return found


def test_the_worker_and_all_it_imports_know_nothing_of_the_runner() -> None:
    """Its whole closure, what it imports inside functions included."""
    modules = sorted(closure("worker"))
    assert {"models", "pipeline", "cuda_pipeline", "buffers", "metrics", "warmup"} <= set(modules)
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(f'numa_bench.{name}')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )

    loaded = json.loads(python(code, *modules))

    assert "torch" in loaded
    assert reached(loaded, RUNNERS) == set()


def test_the_workers_sources_name_nothing_of_the_runner() -> None:
    """Also where an import stands in a function that no test happens to call."""
    # topology prints tables with rich when it runs as a program of its own.
    allowed = {"topology": {"rich"}}
    for module in closure("worker"):
        named = reached(sorted(imported_anywhere(PACKAGE / f"{module}.py")), RUNNERS)
        assert named <= allowed.get(module, set()), f"{module} imports {named}"


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

    python(code, str(RUNNER), *arguments, cwd=tmp_path)

    loaded = json.loads((tmp_path / "modules.json").read_text())
    assert "numa_bench.config.hydra_app" in loaded
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
    importlib.import_module(f"numa_bench.{name}")
print(json.dumps(seen))
"""


def test_importing_probes_nothing() -> None:
    """No process, no file, no library, no directory is opened by a module of ours."""
    assert json.loads(python(_AUDIT, str(PACKAGE), *MODULES)) == []


def test_no_module_imports_nvml_or_torch_at_its_top_unasked() -> None:
    """torch itself imports pynvml; of ours only those that measure import torch."""
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(f'numa_bench.{name}')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    measuring = {"buffers", "cuda_pipeline", "metrics", "models", "pipeline", "warmup"}

    loaded = json.loads(python(code, *(set(MODULES) - measuring)))

    assert reached(loaded, {"pynvml", *HEAVY}) == set()


def test_the_probe_above_would_be_seen(tmp_path: Path) -> None:
    """The audit hook is worth what it finds: here is a module that does probe."""
    (tmp_path / "numa_bench").mkdir()
    (tmp_path / "numa_bench" / "probing.py").write_text(
        "import subprocess\nopen('/proc/cpuinfo').close()\nsubprocess.run(['true'])\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + _AUDIT

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "probing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    events = {event for event, _, __ in json.loads(done.stdout)}
    assert {"open", "subprocess.Popen"} <= events


def test_pure_modules_stay_pure() -> None:
    """Argument vectors and plans are made without a process, a socket or a clock."""
    for module in ("binding", "planning", "nodes", "validation", "overrides", "summary"):
        named = imported_anywhere(PACKAGE / f"{module}.py")
        assert not named & {"subprocess", "os", "socket", "time", "shutil", "pynvml", "psutil"}


@pytest.mark.parametrize("path", sorted((PROJECT / "analysis").glob("*.py")), ids=lambda p: p.stem)
def test_the_analysis_reads_files_and_knows_nothing_of_the_runner(path: Path) -> None:
    forbidden = {
        *("torch", "nvtx", "mlflow", "pynvml", "psutil", "filelock"),
        *(
            "numa_bench.config.schema",
            "numa_bench.runner.process",
            "numa_bench.runner.study",
            "numa_bench.worker",
        ),
        *(
            "numa_bench.plan.plan",
            "numa_bench.config.loading",
            "numa_bench.config.hydra_app",
            "numa_bench.store",
        ),
    }

    assert reached(sorted(imported_anywhere(path)), forbidden) == set()
