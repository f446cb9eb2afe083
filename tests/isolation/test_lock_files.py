"""Lock files: made for all users, waited for in the kernel, freed and left behind correctly."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from numa_bench.errors import ConfigError
from numa_bench.isolation.lock_files import (
    Patience,
    WaitEnded,
    describe_holder,
    prepare_directory,
    take_lock,
)

NOBODY = 65534
AT_ONCE = Patience(until=0.0)
Mount = namedtuple("Mount", "mountpoint fstype")


class OneSignal:
    """Signals that end a wait; `send` makes one arrive."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._write = os.pipe()

    def send(self) -> None:
        self.count += 1
        os.write(self._write, b"x")

    def drain(self) -> None:
        os.set_blocking(self.fd, False)
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 100)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can reach, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="numa_bench-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_nobody(work: Callable[[], None]) -> bool:
    """Whether this works in a child process of another user."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_directory_and_files_are_for_all_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        directory = prepare_directory(str(tmp_path / "locks"))
        descriptor = take_lock(directory / "node0", AT_ONCE, shared=False)
    finally:
        os.umask(before)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o1777
    assert stat.S_IMODE((directory / "node0").stat().st_mode) == 0o644
    assert sorted(path.name for path in directory.iterdir()) == ["gate", "node0"]
    os.close(descriptor)


def test_directory_is_that_of_the_host_unless_one_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMA_BENCH_LOCKS", str(tmp_path / "host"))

    assert prepare_directory(None) == tmp_path / "host"
    assert prepare_directory(str(tmp_path / "chosen")) == tmp_path / "chosen"


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [Mount("/", "ext4"), Mount(str(tmp_path), "nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)

    with pytest.raises(ConfigError, match=r"isolation\.directory=.*\(nfs4\).*local directory"):
        prepare_directory(str(tmp_path / "locks"))


def test_directory_that_cannot_be_made_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="choose another one, or set NUMA_BENCH_LOCKS") as caught:
        prepare_directory(str(tmp_path / "file" / "locks"))
    assert "\n" not in str(caught.value)


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "node0").symlink_to(tmp_path / "target")

    with pytest.raises(OSError, match="symbolic links"):
        take_lock(tmp_path / "node0", AT_ONCE, shared=False)


def test_lock_is_exclusive_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "host"
    first = take_lock(path, AT_ONCE, shared=True)
    second = take_lock(path, AT_ONCE, shared=True)
    os.close(first)

    with pytest.raises(WaitEnded):
        take_lock(path, AT_ONCE, shared=False)
    os.close(second)
    os.close(take_lock(path, Patience(), shared=False))


def test_wait_that_was_given_up_leaves_no_lock_behind(tmp_path: Path) -> None:
    """The thread that waits in the kernel gets the lock later, when nobody wants it any more."""
    path = tmp_path / "host"
    held = take_lock(path, AT_ONCE, shared=False)
    shown: list[Path] = []

    # Not at once: nothing waits then.
    patience = Patience(until=time.monotonic() + 0.05, show=shown.append)
    with pytest.raises(WaitEnded) as caught:
        take_lock(path, patience, shared=False)
    assert not caught.value.interrupted
    assert shown == [path]
    os.close(held)
    os.close(take_lock(path, Patience(), shared=False))


def test_signal_ends_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "host"
    held = take_lock(path, AT_ONCE, shared=False)
    signals = OneSignal()

    # It arrives when the wait begins.
    patience = Patience(signals=signals, show=lambda _: signals.send())
    with pytest.raises(WaitEnded) as caught:
        take_lock(path, patience, shared=False)
    assert caught.value.interrupted
    os.close(held)


def test_tolerated_signal_does_not_end_a_wait(tmp_path: Path) -> None:
    path = tmp_path / "host"
    held = take_lock(path, AT_ONCE, shared=False)
    signals = OneSignal()

    def show(_: Path) -> None:
        signals.send()
        os.close(held)

    os.close(take_lock(path, Patience(signals=signals, tolerated=1, show=show), shared=False))
    assert signals.count == 1


def test_file_that_was_removed_meanwhile_is_not_the_lock(tmp_path: Path) -> None:
    """Whoever cleans up /tmp must not leave two processes with a lock each."""
    path = tmp_path / "host"
    held = take_lock(path, AT_ONCE, shared=False)

    def clean_up(_: Path) -> None:
        path.unlink()
        os.close(held)

    taken = take_lock(path, Patience(show=clean_up), shared=False)
    assert os.fstat(taken).st_ino == path.stat().st_ino
    with pytest.raises(WaitEnded):
        take_lock(path, AT_ONCE, shared=False)
    os.close(taken)


def test_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host"
    held = take_lock(path, AT_ONCE, shared=False)

    user = psutil.Process().username()
    assert describe_holder(path) == f"process {os.getpid()} of {user}"
    os.close(held)
    assert describe_holder(path) == "another process"


def test_heir_of_a_dead_holder_is_named(tmp_path: Path) -> None:
    """A process that took the lock and ended; its child has the descriptor."""
    path = tmp_path / "host"
    code = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from numa_bench.isolation.lock_files import Patience, take_lock\n"
        "held = take_lock(Path(sys.argv[1]), Patience(), shared=False)\n"
        "child = subprocess.Popen(['cat'], stdin=0, stdout=2, pass_fds=(held,))\n"
        "print(child.pid)"
    )
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=reader, stdout=subprocess.PIPE, text=True
    ) as starter:
        os.close(reader)
        heir = int(starter.communicate()[0])

    assert describe_holder(path).startswith(f"process {heir} of ")
    with pytest.raises(WaitEnded):
        take_lock(path, AT_ONCE, shared=False)
    os.close(writer)  # the heir ends
    os.close(take_lock(path, Patience(until=time.monotonic() + 60), shared=False))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_lock_files_of_other_users_work(public: Path) -> None:
    """In a sticky directory the kernel refuses to open another user's file with O_CREAT."""
    directory = prepare_directory(str(public / "locks"))
    os.close(take_lock(directory / "roots", AT_ONCE, shared=False))

    def work() -> None:
        for name in ("gate", "roots", "nobodys"):
            os.close(take_lock(prepare_directory(str(directory)) / name, AT_ONCE, shared=False))

    assert as_nobody(work)
    assert (directory / "nobodys").stat().st_uid == NOBODY
    held = take_lock(directory / "nobodys", AT_ONCE, shared=False)

    def fail() -> None:
        with pytest.raises(WaitEnded):
            take_lock(directory / "nobodys", AT_ONCE, shared=False)

    assert as_nobody(fail)
    os.close(held)
