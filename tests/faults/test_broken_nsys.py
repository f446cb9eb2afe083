"""An nsys that hangs, is corrupt or says nonsense: a study goes on without it, or says so."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.errors import MachineError
from numa_bench.profiling import nsys
from numa_bench.profiling.launch import find_profiler
from tests.fake_worker import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

VERSION = (
    'if [ "$1" = --version ]; then echo "NVIDIA Nsight Systems version 2023.4.4.54-1"; exit; fi'
)
#: Program texts, and what the one line about each says. Each sleep is a process of its own.
BROKEN = {
    "hangs": ("sleep 1000; true", "does not run: "),
    "hangs later": (f"{VERSION}\nsleep 1000; true", "nsys profile took longer than "),
    "fails": ("echo no license >&2; exit 3", "--version fails: no license"),
    "says nothing": ("exit 0", "--version fails: no reason given"),
    "says nonsense": (r"printf '\377\376\000'; exit 0", "--version fails: no reason given"),
    "leaves no report": (f"{VERSION}\nexit 0", "no report"),
    "crashes": (f"{VERSION}\nkill -SEGV $$", "nsys profile exited with -11: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_nsys_that_does_not_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    monkeypatch.setattr(nsys, "PROBE_TIMEOUT_S", 1.0)
    text, problem = BROKEN[name]
    executable = tmp_path / "nsys"
    executable.write_text(f"#!/bin/sh\n{text}\n")
    executable.chmod(0o755)

    profiler = find_profiler(ProfilerConfig(executable=str(executable)), probe=True)
    assert profiler.kind == "none"
    assert profiler.note is not None
    assert problem in profiler.note
    assert "\n" not in profiler.note
    with pytest.raises(MachineError, match=r"^profiler=nsys: ") as refused:
        find_profiler(ProfilerConfig(kind="nsys", executable=str(executable)), probe=True)
    assert problem in str(refused.value)
    assert list(temp.iterdir()) == []
    wait_until(lambda: not has_started(temp), "no process of it is left")


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    executable = tmp_path / "nsys"
    executable.write_bytes(b"\x7fELF\x00\xff garbage")
    executable.chmod(0o755)

    profiler = find_profiler(ProfilerConfig(executable=str(executable)), probe=True)
    assert profiler.kind == "none"
    assert "does not run: " in str(profiler.note)


def has_started(temp: Path) -> bool:
    """Whether a process lives whose TMPDIR is below `temp`."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={temp}".encode() in entry.read_bytes():
                return True
        except OSError:
            continue
    return False
