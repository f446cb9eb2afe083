"""The offline kit: made with an index, installed without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

import numa_bench
from tests.conftest import PROJECT

#: What `numa-bench topology` runs without; the wheels of the rest are a few megabytes.
WITHOUT = (
    "torch,vit-pytorch,mlflow,matplotlib,scipy,pandas,numpy"
    ",hydra-joblib-launcher,jinja2,einops,nvtx"
)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_PYTHON = "3.12" if PYTHON != "3.12" else "3.11"
#: Whatever asks for a network address gets "connection refused", and pip's settings are gone.
NO_NETWORK = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    "PIP_CONFIG_FILE": os.devnull,
}


def run(
    *words: str | Path, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**(environment or os.environ), "PYTHON": sys.executable},
        check=False,
    )


def make_kit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(PROJECT / "tools" / "offline_kit.sh", *arguments, cwd=PROJECT)


@pytest.fixture(scope="module")
def _index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip reaches no index."""
    target = tmp_path_factory.mktemp("probe")
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir"]
    quick = ["--retries", "0", "--timeout", "15", "--dest", str(target)]
    done = run(*download, *quick, "mdurl==0.1.2", cwd=target)
    if done.returncode != 0:
        pytest.skip("pip reaches no package index")


@pytest.fixture(scope="module")
def kit(_index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small kit for the running Python, made once however many processes run the tests."""
    base = tmp_path_factory.getbasetemp()
    # The workers of one run have their directories side by side.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "offline_kits" / "kit"
    with FileLock(shared / "offline_kits.lock"):
        if not out.exists():
            done = make_kit(out, "--without", WITHOUT)
            assert done.returncode == 0, done.stderr
            assert [path.name for path in out.parent.iterdir()] == ["kit"]
    return out


@pytest.mark.slow
def test_a_kit_is_installed_without_an_index(kit: Path, tmp_path: Path) -> None:
    done = run(kit / "install.sh", "venv", cwd=tmp_path, environment=NO_NETWORK)
    assert done.returncode == 0, done.stderr
    assert "ready, without torch" in done.stdout

    command = tmp_path / "venv" / "bin" / "numa-bench"
    version = run(command, "--version", cwd=tmp_path)
    assert version.stdout == f"numa-bench {numa_bench.__version__}\n"
    topology = run(command, "topology", cwd=tmp_path)
    assert topology.returncode == 0, topology.stderr
    assert "NUMA nodes" in topology.stdout


@pytest.mark.slow
def test_what_a_kit_holds(kit: Path) -> None:
    wheels = {path.name.partition("-")[0] for path in (kit / "wheels").iterdir()}
    assert {"numa_bench", "antlr4_python3_runtime", "hydra_core", "pip", "psutil"} <= wheels
    assert not wheels & {"torch", "torchvision", "mlflow", "numpy", "triton"}
    if shutil.which("apt-get"):
        debs = {path.name.partition("_")[0] for path in (kit / "debs").glob("*.deb")}
        assert debs == {"numactl", "libnuma1"}
    manifest = (kit / "MANIFEST").read_text()
    assert f"# Python {PYTHON}, Linux x86-64" in manifest
    assert f"without: {WITHOUT}" in manifest
    # Every setting travels in the project's own wheel.
    (own,) = (kit / "wheels").glob("numa_bench-*.whl")
    assert "numa_bench/conf/config.yaml" in zipfile.ZipFile(own).namelist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("wheel", "the kit is damaged: "),
        ("version", "this kit is for Python 2.7"),
    ],
)
def test_a_kit_that_does_not_fit_is_refused(
    damage: str, message: str, kit: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "kit"
    shutil.copytree(kit, broken)
    if damage == "wheel":
        next((broken / "wheels").glob("rich-*.whl")).write_bytes(b"half a file")
    else:
        script = broken / "install.sh"
        script.write_text(script.read_text().replace(f"made_for='{PYTHON}'", "made_for='2.7'"))
    done = run(broken / "install.sh", "venv", cwd=tmp_path, environment=NO_NETWORK)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_index")
def test_wheels_for_another_python(tmp_path: Path) -> None:
    """Compiled packages as its wheels; a source distribution as a wheel for every Python."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("hydra-core\nmarkupsafe\n")
    done = run(
        *(sys.executable, PROJECT / "tools" / "collect_wheels.py", tmp_path / "out"),
        *("--python", OTHER_PYTHON, "--requirements", requirements),
        *("--constraints", PROJECT / "constraints.txt"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out" / "wheels").iterdir()}
    assert "antlr4_python3_runtime-4.9.3-py3-none-any.whl" in names
    tag = "cp" + OTHER_PYTHON.replace(".", "")
    compiled = [name for name in names if not name.endswith("-none-any.whl")]
    assert len(compiled) == 2  # markupsafe and pyyaml
    assert all(f"-{tag}-{tag}-manylinux" in name for name in compiled)


def test_a_package_that_is_no_requirement(tmp_path: Path) -> None:
    done = run(
        *(sys.executable, PROJECT / "tools" / "collect_wheels.py", tmp_path / "out"),
        *("--python", "3.12", "--requirements", PROJECT / "requirements_hydra.txt"),
        *("--constraints", PROJECT / "constraints.txt", "--without", "tensorflow"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "--without tensorflow: no such requirement; one of einops, " in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: tools/offline_kit.sh OUTDIR"),
        (["a", "b"], "usage: "),
        (["kit", "--python"], "usage: "),
        (["kit", "--torch", "cu999"], "usage: "),
        (["kit", "--python", "3.9"], "--python 3.9: give a version from 3.10 on"),
        (["kit", "--python", "three"], "--python three: give a version from 3.10 on"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], message: str, tmp_path: Path) -> None:
    words = [str(tmp_path / word) if word in ("a", "b", "kit") else word for word in arguments]
    done = make_kit(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("offline_kit.sh: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_directory_with_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = make_kit(tmp_path)
    assert done.returncode == 2
    assert "exists; name an empty or new directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
