"""Temporary directories of a runner that was killed do not stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from numa_bench.isolation.scratch import PREFIX, hold_scratch, remove_stale_scratch
from tests.conftest import PROJECT

HOLDER = """
import signal
from numa_bench.isolation.scratch import hold_scratch
with hold_scratch() as path:
    (path / "session").write_text("state")
    print(path, flush=True)
    signal.pause()
"""


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_directories_of_a_killed_owner_are_removed_and_no_others(temp: Path) -> None:
    env = {**os.environ, "TMPDIR": str(temp), "PYTHONPATH": str(PROJECT)}
    (temp / "numa_bench-0123456789ab").mkdir()  # results of a study whose disk was full
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=env, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        assert path.name.startswith(PREFIX)
        remove_stale_scratch()
        assert (path / "session").read_text() == "state"
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert path.is_dir()
    with hold_scratch() as own:
        remove_stale_scratch()
        assert own.is_dir()
    assert [path.name for path in temp.iterdir()] == ["numa_bench-0123456789ab"]
