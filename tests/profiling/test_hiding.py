"""A child that cannot read the environments of the processes around it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from numa_bench.profiling.hiding import REFUSED, can_hide, find_exposed_secrets, wrap_argv
from tests.conftest import PROJECT
from tests.fake_worker import wait_until


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A process with a secret."""
    process = subprocess.Popen(["sleep", "600"], env={"HF_TOKEN": "hush", "LANG": "C"})
    # A process in the middle of exec() shows no environment.
    environ = Path(f"/proc/{process.pid}/environ")
    wait_until(lambda: b"HF_TOKEN" in environ.read_bytes(), "the neighbour's environment")
    yield process.pid
    process.kill()
    process.wait()


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        wrap_argv(list(argv)), cwd=PROJECT, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not can_hide(PROJECT), reason="no mount namespaces for this user here")
def test_a_neighbours_environment_is_hidden_and_its_number_is_not(neighbour: int) -> None:
    environ = f"/proc/{neighbour}/environ"
    assert b"hush" in Path(environ).read_bytes()

    done = run(
        "sh", "-c", f"cat {environ}; tr '\\0' ' ' < /proc/{neighbour}/cmdline; cat /proc/1/environ"
    )

    assert (done.returncode, done.stdout.strip()) == (0, "sleep 600")
    assert b"hush" in Path(environ).read_bytes()


@pytest.mark.skipif(not can_hide(PROJECT), reason="no mount namespaces for this user here")
def test_the_command_keeps_its_number_its_user_and_its_exit_status() -> None:
    process = subprocess.Popen(
        wrap_argv(["sh", "-c", "echo $$ $(id -u); exit 7"]),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )

    out, _ = process.communicate()

    assert out.split() == [str(process.pid), str(os.getuid())]
    assert process.returncode == 7


def test_a_command_that_is_not_there_is_told() -> None:
    done = run("/no/such/command")

    assert done.returncode == REFUSED
    assert "No such file" in done.stderr or "cannot be hidden" in done.stderr


@pytest.mark.usefixtures("neighbour")
def test_names_that_look_like_secrets_are_found_by_name_alone() -> None:
    found = find_exposed_secrets()

    assert "HF_TOKEN" in found
    assert "LANG" not in found
    assert "hush" not in " ".join(found)


def test_this_process_counts_too_and_so_do_credentials_in_a_uri(tmp_path: Path) -> None:
    """nsys is a child of the runner, and reads its environment as well."""
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (own / "environ").write_bytes(b"MLFLOW_TRACKING_URI=https://u:p@host\0URL=https://host\0")

    assert find_exposed_secrets(tmp_path) == ["MLFLOW_TRACKING_URI"]


def test_a_process_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "environ").mkdir()  # cannot be read as a file
    (tmp_path / "18").mkdir()
    (tmp_path / "18" / "environ").write_bytes(b"A_SECRET=1\0B=2\0")
    (tmp_path / "self").mkdir()

    assert find_exposed_secrets(tmp_path) == ["A_SECRET"]
