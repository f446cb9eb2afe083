"""A file system that fails at a chosen write: every call that changes a file is counted."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

#: Audit events of calls that change the file system, and how many of their arguments are paths.
_EVENTS = {"os.mkdir": 1, "os.rename": 2, "os.rmdir": 1, "os.truncate": 1}
_fsync = os.fsync
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the product catches it, and no file changes after it."""


class Faults:
    """Counts the calls that change a file, and fails some of them."""

    def __init__(self) -> None:
        self.calls = 0
        self._roots: tuple[Path, ...] = ()
        self._first, self._last = 0, -1
        self._killed = False

    @contextmanager
    def inject(
        self, roots: tuple[Path, ...], first: int, last: int, *, killed: bool = False
    ) -> Iterator[None]:
        """Fail the calls `first` to `last` of those below `roots`, counted from 0.

        As a full disk does, or with `killed` as a kill does.
        """
        self.calls, self._roots = 0, roots
        self._first, self._last, self._killed = first, last, killed
        try:
            with mock.patch.object(os, "fsync", self._fsync):
                yield
        finally:
            self._roots = ()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The hook for sys.addaudithook, which cannot be removed."""
        if not self._roots:
            return
        if event == "open":
            path, mode, flags = arguments
            # os.open has no mode; a temporary file is opened by its number afterwards.
            changes = (isinstance(mode, str) and mode[:1] in "wax") or flags & _WRITES
            if changes and isinstance(path, (str, bytes, os.PathLike)):
                self._count(path)
        elif event in _EVENTS or (event == "os.remove" and self._killed):
            # A full disk does not keep files from being removed.
            for path in arguments[: _EVENTS.get(event, 1)]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    self._count(path)

    def _fsync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        self._count(Path(f"/proc/self/fd/{number}").readlink())
        _fsync(handle)

    def _count(self, name: str | bytes | os.PathLike[Any]) -> None:
        path = Path(os.fsdecode(name)).absolute()
        if not any(path.is_relative_to(root) for root in self._roots):
            return
        at, self.calls = self.calls, self.calls + 1
        if self._first <= at <= self._last:
            if self._killed:
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


FAULTS = Faults()
sys.addaudithook(FAULTS.audit)
