"""setup.sh: which torch a host gets, and what pip is asked for. Python, pip and GPUs are fakes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import PROJECT

CU126 = "https://download.pytorch.org/whl/cu126"
#: The real commands that the scripts use. Nothing else of this machine is on PATH.
REAL = [
    "awk",
    "bash",
    "cat",
    "chmod",
    "cp",
    "dirname",
    "env",
    "grep",
    "id",
    "mkdir",
    "mktemp",
    "rm",
    "sed",
    "sort",
    "tr",
]
FAKE_PYTHON = """#!/bin/bash
# A Python 3.10 or later whose environments hold a fake pip; $FAKE_TORCH is its torch, if any.
case "$*" in
    *memory_kernels.build*)
        echo "$@" >>build.log
        exit "${FAKE_BUILD:-0}"
        ;;
    *"import ensurepip"* | *Python.h*) ;;
    *"import torch"*) [ -n "${FAKE_TORCH:-}" ] && echo "$FAKE_TORCH" ;;
    *sys.base_prefix*) exit "${FAKE_IN_VENV:-0}" ;;
    "-m venv "*)
        venv=${!#}
        mkdir -p "$venv/bin"
        case "$*" in *--system-site-packages*) sees=true ;; *) sees=false ;; esac
        echo "include-system-site-packages = $sees" >"$venv/pyvenv.cfg"
        cp "$0" "$venv/bin/python"
        cp "$FAKE_PIP" "$venv/bin/pip"
        ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
FAKE_PIP = """#!/bin/bash
echo "$@" >>pip.log
previous=''
for word; do
    [ "$previous" = -c ] && cat "$word" >pip.constraints
    [ "$word" = /dev/stdin ] && cat >pip.stdin
    previous=$word
done
exit 0
"""


@dataclass
class Host:
    """A host with a checkout on which setup.sh can be run."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    def add_command(self, name: str, script: str = "#!/bin/bash\nexit 0\n") -> Path:
        path = self.root / "bin" / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    def add_gpus(self, *rows: str) -> None:
        """An nvidia-smi that answers one row per GPU: driver, or driver and compute capability."""
        if all("," in row for row in rows):
            old = ""
        else:
            # What a driver before 510 does.
            old = 'case "$*" in *compute_cap*) echo "not a valid field"; exit 2;; esac\n'
        lines = "".join(f"echo '{row}'\n" for row in rows)
        self.add_command("nvidia-smi", f"#!/bin/bash\n{old}{lines}")

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "setup.sh", *arguments],
            capture_output=True,
            text=True,
            env={"PATH": str(self.root / "bin"), "HOME": str(self.root), **self.environment},
            check=False,
        )

    def read(self, name: str) -> list[str]:
        return (self.checkout / name).read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """With every system package, and no GPU."""
    host = Host(tmp_path)
    for directory in ("bin", "checkout/tools"):
        (tmp_path / directory).mkdir(parents=True)
    names = ["setup.sh", "tools/torch_choice.sh", "constraints.txt"]
    for name in [*names, "requirements_hydra.txt", "requirements_dev.txt"]:
        shutil.copy(PROJECT / name, host.checkout / name)
    for name in REAL:
        found = shutil.which(name)
        assert found is not None, name
        (tmp_path / "bin" / name).symlink_to(found)
    for name in ("numactl", "g++", "chromium"):
        host.add_command(name)
    host.add_command("python3", FAKE_PYTHON)
    pip = tmp_path / "pip"
    pip.write_text(FAKE_PIP)
    pip.chmod(0o755)
    host.environment = {"REAL_PYTHON": sys.executable, "FAKE_PIP": str(pip)}
    return host


def assert_refused(done: subprocess.CompletedProcess[str], host: Host, *words: str) -> None:
    """Exit code 2 and one line with these words, before anything is installed."""
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for word in ("setup.sh: ", *words):
        assert word in line
    assert not (host.checkout / "pip.log").exists()


def pick_build(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The choice alone: driver, then compute capabilities times ten."""
    script = '. tools/torch_choice.sh; pick_torch_build "$@"'
    return subprocess.run(
        ["bash", "-euc", script, "bash", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )


@pytest.mark.parametrize(
    ("gpus", "build"),
    [
        ([""], "default"),
        (["595.45"], "default"),
        (["580"], "default"),
        (["580.65.06", "75"], "default"),
        (["580.65.06", "90", "120"], "default"),
        (["579.99", "90"], "cu126"),
        (["570.86.10"], "cu126"),
        (["550.54.15", "80", "90"], "cu126"),
        (["525.60.13", "70"], "cu126"),
        # CUDA 13 has no code for Volta.
        (["580.65.06", "70", "90"], "cu126"),
    ],
)
def test_the_build_for_a_driver(gpus: list[str], build: str) -> None:
    done = pick_build(*gpus)
    assert (done.returncode, done.stderr) == (0, "")
    chosen, _, reason = done.stdout.strip().partition(" ")
    assert chosen == build
    assert gpus[0] in reason


@pytest.mark.parametrize(
    ("gpus", "advice"),
    [
        (["524.99"], "install driver 580 or later, or at least 525"),
        (["470.57.02", "80"], "install driver 580 or later, or at least 525"),
        (["570.86.10", "100"], "above 9.0: install driver 580 or later"),
        (["590.1", "70", "120"], "--system-torch"),
    ],
)
def test_no_build_fits(gpus: list[str], advice: str) -> None:
    done = pick_build(*gpus)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert advice in done.stderr


@pytest.mark.parametrize(
    ("rows", "build"),
    [
        ([], "default"),
        (["580.65.06, 9.0"], "default"),
        (["580.65.06, 7.0", "580.65.06, 9.0"], "cu126"),
        (["565.57.01, 9.0"] * 8, "cu126"),
        # A capability that is not reported: the driver decides.
        (["580.65.06, [N/A]"], "default"),
        (["530.30.02"], "cu126"),
    ],
)
def test_the_choice_is_printed_and_nothing_installed(
    rows: list[str], build: str, host: Host
) -> None:
    if rows:
        host.add_gpus(*rows)
    done = host.setup("--print-torch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == build
    assert not (host.checkout / ".venv").exists()


def test_a_broken_driver_counts_as_none(host: Host) -> None:
    message = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"
    host.add_command("nvidia-smi", f'#!/bin/bash\necho "{message}"\nexit 9\n')
    assert host.setup("--print-torch").stdout.startswith("default no NVIDIA driver answers")


@pytest.mark.parametrize("rows", [[], ["580.65.06, 9.0"]])
def test_by_default_everything_is_as_pinned(rows: list[str], host: Host) -> None:
    if rows:
        host.add_gpus(*rows)
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert "setup.sh: torch: default build (" in done.stdout
    (line,) = host.read("pip.log")
    assert line.endswith("-r requirements_hydra.txt")
    assert "index-url" not in line
    assert host.read("pip.constraints") == (PROJECT / "constraints.txt").read_text().splitlines()
    assert host.read(".venv/pyvenv.cfg") == ["include-system-site-packages = false"]


def test_memory_kernels_are_built_but_not_needed(host: Host) -> None:
    host.environment["FAKE_BUILD"] = "1"

    done = host.setup()

    assert done.returncode == 0, done.stderr
    assert host.read("build.log") == ["-m numa_bench.worker.memory_kernels.build"]


def test_an_older_driver_gets_torch_from_an_older_index(host: Host) -> None:
    host.add_gpus("570.86.10, 9.0")
    done = host.setup("--dev")
    assert done.returncode == 0, done.stderr
    assert "cu126 build (NVIDIA driver 570.86.10" in done.stdout
    (line,) = host.read("pip.log")
    assert f"--extra-index-url {CU126}" in line
    assert line.endswith("-r requirements_dev.txt")
    pins = host.read("pip.constraints")
    plain = (PROJECT / "constraints.txt").read_text().splitlines()
    for name in ("torch", "torchvision"):
        (pin,) = [p for p in plain if p.startswith(f"{name}==")]
        assert f"{pin}+cu126" in pins
        assert pin not in pins
    # The libraries of CUDA 13 are not pinned for CUDA 12; NVML's bindings are no such library.
    assert [pin.partition("=")[0] for pin in pins if pin.startswith("nvidia")] == ["nvidia-ml-py"]


def test_a_driver_that_is_too_old_is_refused(host: Host) -> None:
    host.add_gpus("470.57.02, 8.0")
    assert_refused(host.setup(), host, "470.57.02", "too old for torch", "install driver 580")
    assert not (host.checkout / ".venv").exists()


@pytest.mark.parametrize("version", ["2.11.0+cu130", "2.8.0", "2.9.0a0+50eac811a6.nv25.09"])
def test_the_torch_of_the_host_is_used_as_it_is(version: str, host: Host) -> None:
    host.environment["FAKE_TORCH"] = version
    done = host.setup("--dev", "--system-torch")
    assert done.returncode == 0, done.stderr
    assert f"setup.sh: torch: {version} of python3, used as it is" in done.stdout
    assert host.read(".venv/pyvenv.cfg") == ["include-system-site-packages = true"]
    requirements, alone = host.read("pip.log")
    assert requirements.endswith("-r /dev/stdin")
    assert alone.endswith("--no-deps vit-pytorch")
    wanted = host.read("pip.stdin")
    assert not [line for line in wanted if line.startswith(("torch", "vit-pytorch", "-r"))]
    assert {"einops>=0.8", "pytest>=8.2"} <= set(wanted)
    pins = host.read("pip.constraints")
    assert [pin for pin in pins if pin.startswith(("torch=", "torchvision", "triton"))] == [
        f"torch=={version}"
    ]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["python3 cannot import torch", "leave --system-torch out"]),
        ({"FAKE_TORCH": "2.7.1+cu118"}, ["torch 2.7.1+cu118", "too old", "2.8 or later"]),
        ({"FAKE_TORCH": "2.11.0", "FAKE_IN_VENV": "1"}, ["virtual environment", "set PYTHON"]),
    ],
)
def test_a_host_torch_that_cannot_be_used(
    environment: dict[str, str], words: list[str], host: Host
) -> None:
    host.environment |= environment
    assert_refused(host.setup("--system-torch"), host, *words)
    assert not (host.checkout / ".venv").exists()


def test_an_environment_made_the_other_way_is_kept(host: Host) -> None:
    host.environment["FAKE_TORCH"] = "2.11.0"
    assert host.setup("--system-torch").returncode == 0
    (host.checkout / "pip.log").unlink()
    assert_refused(host.setup(), host, ".venv was made with --system-torch", "remove .venv")
    assert host.setup("--system-torch").returncode == 0


def test_arguments_that_do_not_exist(host: Host) -> None:
    done = host.setup("--cuda")
    assert done.returncode == 2
    assert done.stderr == "usage: ./setup.sh [--dev] [--system-torch] | --print-torch\n"
    assert not (host.checkout / ".venv").exists()


def test_without_apt_the_missing_packages_are_named(host: Host) -> None:
    for name in ("numactl", "g++"):
        (host.root / "bin" / name).unlink()
    assert_refused(host.setup(), host, "install these first", "numactl g++")


def test_a_python_that_is_too_old(host: Host) -> None:
    host.environment["PYTHON"] = str(host.add_command("python3.9", "#!/bin/bash\nexit 1\n"))
    assert_refused(host.setup(), host, "needs Python 3.10 or later", "set PYTHON")
