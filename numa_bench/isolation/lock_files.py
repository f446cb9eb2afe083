"""Lock files that all users of a host share: made, opened, waited for, and who holds them.

The locks are those of flock(2). They belong to an open file: a process that inherits the descriptor
keeps the lock when its parent dies, and the kernel frees it with the last of them. The package
filelock is no choice here: it lets go in forked children, and it opens files for writing, which a
sticky directory refuses for files of other users.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from numa_bench.errors import ConfigError

#: Where the locks are unless the user says otherwise, and the variable that says so for a host.
DEFAULT_DIRECTORY, DIRECTORY_VARIABLE = Path("/tmp/numa_bench-locks"), "NUMA_BENCH_LOCKS"
#: File systems on which a lock would be that of all hosts that mount it, or of none.
_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "panfs"),
    *(
        "wekafs",
        "afs",
        "9p",
        "virtiofs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.juicefs",
    ),
)
#: select() refuses to sleep for more than a few weeks.
_LONGEST_S = 86_400.0


class Signals(Protocol):
    """Signals that end a wait: `runner.interrupts.Interrupts`."""

    @property
    def count(self) -> int:
        """Number of signals so far."""

    @property
    def fd(self) -> int:
        """A descriptor that is readable when a signal arrived."""

    def drain(self) -> None:
        """Empty `fd`."""


class WaitEnded(Exception):  # noqa: N818 - an outcome, not a mistake
    """A wait for a lock that ended without it. `interrupted`: by the user, else by the limit."""

    def __init__(self, interrupted: bool) -> None:
        super().__init__(interrupted)
        self.interrupted = interrupted


@dataclass(frozen=True)
class Patience:
    """How long to wait for a lock.

    `until` is in time.monotonic(); more than `tolerated` signals end the wait. `show` gets the
    path of the lock file when a wait begins.
    """

    until: float = math.inf
    signals: Signals | None = None
    tolerated: int = 0
    show: Callable[[Path], None] = lambda _: None

    def measure_left(self) -> float:
        """Seconds that are left, more than none. Raises WaitEnded."""
        if self.signals is not None and self.signals.count > self.tolerated:
            raise WaitEnded(interrupted=True)
        left = self.until - time.monotonic()
        if left <= 0:
            raise WaitEnded(interrupted=False)
        return left

    def sleep_until(self, descriptor: int) -> None:
        """Sleep in the kernel until `descriptor` is readable. Raises WaitEnded."""
        watched = [descriptor] if self.signals is None else [descriptor, self.signals.fd]
        while True:
            longest_s = min(self.measure_left(), _LONGEST_S)
            readable, _, _ = select.select(watched, [], [], longest_s)
            if self.signals is not None:
                self.signals.drain()
            if descriptor in readable:
                return


def prepare_directory(chosen: str | None) -> Path:
    """The directory of the lock files, made for all users if it is missing.

    Raises ConfigError when it cannot be used.
    """
    path = Path(chosen or os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _no_umask(), contextlib.suppress(FileExistsError):
            path.mkdir(0o1777)
        kind = _find_file_system(path)
        # Opened as it will be: without the right to make files, those that are missing are missed.
        os.close(open_lock_file(path / "gate"))
    except OSError as error:
        raise ConfigError(
            "isolation.directory",
            path,
            f"cannot be used: {error.strerror or error}; choose another one, or set "
            f"{DIRECTORY_VARIABLE} for all users of this host",
        ) from error
    if kind in _NETWORK:
        raise ConfigError(
            "isolation.directory",
            path,
            f"is on a network file system ({kind}), whose locks are not those of this host; "
            "choose a local directory",
        )
    return path


def open_lock_file(path: Path) -> int:
    """A descriptor of a lock file, which is made if it is missing. Raises OSError."""
    while True:
        try:
            # Read-only: the file may be another user's.
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            _make_lock_file(path)


def take_lock(path: Path, patience: Patience, *, shared: bool) -> int:
    """Wait for the lock; it is held until every copy of the descriptor is closed.

    Raises WaitEnded when the wait ended without it, OSError when there can be no lock.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        descriptor = open_lock_file(path)
        try:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                patience.show(path)
                patience.measure_left()  # without a wait there is no thread to leave behind
                _wait(descriptor, operation, patience)
            # Someone may have cleaned up the directory meanwhile, and others lock a new file.
            if _is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def describe_holder(path: Path) -> str:
    """Who holds the lock, as far as the kernel says: "process 12 of anna"."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        number = _find_owner(path.stat()) or _find_heir(path)
        if number is not None and not psutil.pid_exists(number):
            number = _find_heir(path)  # the owner died, and a worker of it inherited the lock
        if number is not None:
            return f"process {number} of {psutil.Process(number).username()}"
    return "another process"


def _find_owner(file: os.stat_result) -> int | None:
    """The process that took the lock, by proc_locks(5); it may have ended. None: not shown."""
    identity = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        # Those that wait have an arrow before the kind.
        if words[1] == "FLOCK" and words[5] == identity and int(words[4]) > 0:
            return int(words[4])
    return None


def _find_heir(path: Path) -> int | None:
    """A living process with a descriptor that holds the lock, by proc_pid_fdinfo(5).

    None: there is none among the processes that this user may look at.
    """
    for number in psutil.pids():
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{number}/fd").iterdir():
                if link.is_symlink() and os.readlink(link) == str(path):  # noqa: PTH115
                    described = Path(f"/proc/{number}/fdinfo/{link.name}").read_text()
                    if "\nlock:" in described:
                        return number
    return None


def _wait(descriptor: int, operation: int, patience: Patience) -> None:
    """Block in flock(2), where waiters queue up, and leave it for a signal or the limit.

    A thread does it, as nothing else can be waited for at the same time. When this function leaves
    early, the thread has a descriptor of its own: a lock that it gets too late is freed at once.
    """
    own = os.dup(descriptor)
    woken, wake = os.pipe()
    problems: list[OSError] = []

    def block() -> None:
        try:
            fcntl.flock(own, operation)
        except OSError as error:
            problems.append(error)
        finally:
            os.close(own)
            os.close(wake)  # `woken` is readable now

    threading.Thread(target=block, daemon=True).start()
    try:
        patience.sleep_until(woken)
    finally:
        os.close(woken)
    if problems:
        raise problems[0]


def _make_lock_file(path: Path) -> None:
    """Make a file that all users can read, whatever the umask: it appears complete, by link(2)."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        os.fchmod(descriptor, 0o644)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(descriptor)
        Path(name).unlink()


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _find_file_system(path: Path) -> str:
    """The type of the file system of a directory; empty if it is not known."""
    mounts = {m.mountpoint: m.fstype for m in psutil.disk_partitions(all=True)}
    real = path.resolve()
    return next((mounts[str(p)] for p in (real, *real.parents) if str(p) in mounts), "")


@contextlib.contextmanager
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
