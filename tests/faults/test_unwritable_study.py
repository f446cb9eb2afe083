"""A directory that takes no file, and settings that cannot be read: one line, and exit code 2."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from numa_bench.config.hydra.study_log import StudyLogHandler
from numa_bench.config.loading import save_resolved
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import StoreError
from numa_bench.store import StudyStore
from numa_bench.study_files import RESOLVED_CONFIG, RESULTS
from numa_bench.tracking.command import make_syncer
from tests.config.observer import study_with
from tests.conftest import PROJECT

Loads = Callable[..., RunnerConfig]


def log_record(text: str) -> logging.LogRecord:
    return logging.LogRecord("numa_bench", logging.INFO, "", 0, text, None, None)


def test_a_log_without_room_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    handler = StudyLogHandler(str(full))
    for number in range(50):
        handler.handle(log_record(f"line {number}"))
    handler.close()
    assert capsys.readouterr().err == "/dev/full is incomplete: No space left on device\n"


def test_a_log_that_cannot_be_opened_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    handler = StudyLogHandler(str(tmp_path / "file" / "experiment.log"))
    for _ in range(3):
        handler.handle(log_record("line"))
    handler.close()
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/file/experiment.log is incomplete: Not a directory"
    ]


def test_the_log_of_a_refused_job_whose_directory_is_gone_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = StudyLogHandler(str(tmp_path / "removed" / "experiment.log"))
    handler.handle(log_record("line"))
    handler.close()
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "removed").exists()


def test_a_log_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "later" / "experiment.log"
    handler = StudyLogHandler(str(path))
    handler.handle(log_record("lost"))
    path.parent.mkdir()
    handler.handle(log_record("kept"))
    handler.close()
    assert path.read_text() == "kept\n"


def test_a_mistake_in_a_log_call_is_not_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = StudyLogHandler(str(tmp_path / "experiment.log"))
    handler.handle(logging.LogRecord("numa_bench", logging.INFO, "", 0, "%d", ("text",), None))
    handler.close()
    assert "TypeError" in capsys.readouterr().err


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_settings_survive_a_failed_write(
    load: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    study_with(load("experiment=scaling_study"), tmp_path)
    saved = tmp_path / RESOLVED_CONFIG
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, call, fail)
        save_resolved(load("experiment=scaling_study"), tmp_path)  # unchanged: not written
        with pytest.raises(StoreError, match=r"cannot be written: .*No space left"):
            save_resolved(load("experiment=quick_test"), tmp_path)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.glob(".*")] == []


@pytest.mark.parametrize("text", ["", "a: [", "experiment: 3", "- 1", "\0"])
def test_settings_that_cannot_be_read_are_one_line(load: Loads, tmp_path: Path, text: str) -> None:
    study_with(load("experiment=scaling_study"), tmp_path)
    (tmp_path / RESOLVED_CONFIG).write_text(text)
    with pytest.raises(StoreError, match=r"config_resolved\.yaml cannot be") as caught:
        load(f"resume_from={tmp_path}")
    assert len(str(caught.value).splitlines()) == 1
    if text not in ("", "- 1"):  # an empty file has no settings, so tracking takes the defaults
        with pytest.raises(StoreError, match=r"config_resolved\.yaml cannot be") as caught:
            make_syncer(tmp_path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with these options at the directory that it returns."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")

    def mount(options: str) -> Path:
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        tried = subprocess.run(line, capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {tried.stderr.strip()}")
        return disk

    yield mount
    while os.path.ismount(disk):
        subprocess.run(["umount", "-l", str(disk)], check=True)


def start(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(PROJECT / "hydra_experiment_runner.py"), *arguments]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["4k", "16k"])
def test_a_new_study_on_a_disk_without_room(
    mounted: Callable[[str], Path], tmp_path: Path, size: str
) -> None:
    disk = mounted(f"size={size}")
    done = start("experiment=quick_test", f"output.root={disk}/out", "profiler=none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line


@pytest.mark.slow
def test_a_study_that_cannot_be_written_is_not_resumed(
    load: Loads, mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = mounted("size=1m")
    study_with(load("experiment=quick_test"), disk)
    (disk / RESULTS).write_text("[]")
    mounted_again = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(mounted_again, check=True)
    done = start(f"resume_from={disk}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "Read-only file system" in line
    assert line.endswith("; free some space or get write permission")


def test_a_study_that_is_there_cannot_be_moved_to_another_directory(
    load: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numa_bench.store.check_room", refuse)
    remedy = "No space left on device; free some space or get write permission"
    with pytest.raises(StoreError, match=f"{remedy}, or choose another directory$"):
        StudyStore(tmp_path / "new").__enter__()
    study = study_with(load("experiment=quick_test"), tmp_path)
    with pytest.raises(StoreError, match=f"{remedy}$"):
        StudyStore(study).__enter__()


#: Fills the disk at $1 once, and succeeds.
FILLING = """echo rate 12
[ -e "$1/full" ] || { cat /dev/zero > "$1/filler"; touch "$1/full"; } 2>/dev/null
exit 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True], ids=["study", "study and TMPDIR"])
def test_a_disk_that_a_command_fills(
    mounted: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    """The study ends with 1, shows what it measured, and its last line finishes it."""
    disk = mounted("size=2m")
    script, temp = tmp_path / "fill.sh", (disk if both else tmp_path) / "temp"
    temp.mkdir()
    script.write_text(FILLING)
    monkeypatch.setenv("TMPDIR", str(temp))
    done = start(
        *("experiment=command_study", f"command=[sh,{script},{disk}]", "tracking=none"),
        *("experiment.hardware.numa_nodes=unbound", "experiment.hardware.device=cpu"),
        *("experiment.command.metrics=['rate:higher:1=rate ([0-9]+)']", "experiment.repeats=1"),
        f"hydra.run.dir={disk}/study",
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert "1 passed of 1 planned" in done.stdout
    (command,) = [line for line in done.stdout.splitlines() if "when there is space: " in line]
    assert command.endswith("resume_from=disk/study")
    assert ("without 1 that no disk took" in done.stdout) == both

    (disk / "filler").unlink()
    resumed = start(f"resume_from={disk}/study", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    (record,) = json.loads((disk / "study" / "results.json").read_text())
    assert (record["status"], record["metric_rate"]) == ("passed", 12)
    assert any(w.startswith("output: ") for w in record["warnings"]) != both
