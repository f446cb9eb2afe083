"""The installed product: what the wheel holds, and each command away from a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import numa_bench
from tests.conftest import PROJECT
from tests.test_end_to_end import TINY

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed"),
]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it, without network."""
    target = tmp_path_factory.mktemp("dist")
    source = target / "source"
    # A copy: setuptools leaves its build directory and egg-info in the tree that it builds.
    shutil.copytree(
        PROJECT,
        source,
        ignore=lambda directory, names: (
            [name for name in names if name.startswith(".") or name in ("outputs", "multirun")]
            if Path(directory) == PROJECT
            else ["__pycache__"]
        ),
    )
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = target.glob("*.tar.gz")
    (wheel,) = target.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(
    distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Command:
    """Run `numa-bench` of an installed wheel in a directory; inside somebody else's repository."""
    root = tmp_path_factory.mktemp("elsewhere")
    target = root / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", target, distributions[1]], check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "theirs"]):
        subprocess.run(["git", "-C", root, *identity, *words], check=True)

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [target / "bin" / "numa-bench", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(target), "COLUMNS": "300"},
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def studied(
    installed: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An empty directory in which `numa-bench run` was typed, and what it printed."""
    cwd = tmp_path_factory.mktemp("empty")
    return cwd, installed("run", *TINY, "experiment.vit_configs=[{patch_size:32,depth:0}]", cwd=cwd)


def test_the_wheel_has_one_import_name_with_every_module_and_setting(
    distributions: tuple[Path, Path],
) -> None:
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    modules = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("numa_bench/**/*.py")}
    settings = {f"numa_bench/{p.relative_to(PROJECT)}" for p in PROJECT.glob("conf/**/*.yaml")}
    templates = PROJECT.glob("numa_bench/analysis/report/templates/*")
    sources = {"numa_bench/worker/memory_kernels/kernels.c"}

    assert {name.split("/")[0].partition("-")[0] for name in names} == {"numa_bench"}
    assert names >= modules | settings | sources | {
        str(path.relative_to(PROJECT)) for path in templates
    }


def test_the_sdist_has_what_the_tests_need(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "conf/config.yaml",
        "requirements_hydra.txt",
        "tests/conftest.py",
        "hydra_experiment_runner.py",
        "analysis/analyze.py",
        "examples/own_workloads/stream.py",
    }


def test_the_version(installed: Command, tmp_path: Path) -> None:
    done = installed("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"numa-bench {numa_bench.__version__}\n")


def test_a_study_is_left_in_the_current_directory(
    studied: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    cwd, done = studied
    assert done.returncode == 0, done.stderr
    assert "1 passed of 1 planned" in done.stdout
    (summary,) = cwd.glob("outputs/quick_test/*/*/experiment_summary.json")
    assert '"git_commit": null' in summary.read_text()
    assert {path.name for path in cwd.iterdir()} == {"outputs"}


def test_a_study_is_resumed(
    installed: Command, studied: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    cwd, _ = studied
    (study,) = cwd.glob("outputs/quick_test/*/*")
    done = installed("run", f"resume_from={study}", "experiment.repeats=2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "2 passed of 2 planned" in done.stdout
    assert "hydra_experiment_runner" not in done.stdout


def test_the_analysis_finds_the_study(
    installed: Command, studied: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    cwd, _ = studied
    done = installed("analyze", "experiment_name=quick_test", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (page,) = cwd.glob("outputs/**/report.html")
    assert "quick_test" in page.read_text()


@pytest.mark.parametrize("command", ["topology", "selftest", "inspect", "sync", "run", "analyze"])
def test_every_command_explains_itself(command: str, installed: Command, tmp_path: Path) -> None:
    done = installed(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(tmp_path.iterdir())


def test_the_topology_of_this_machine(installed: Command, tmp_path: Path) -> None:
    done = installed("topology", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "node" in done.stdout.lower()
