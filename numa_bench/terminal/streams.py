"""Standard streams that never end a program: output that nobody can read is dropped."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

_STDIN, _STDOUT, _STDERR = range(3)


class _DroppingFile(io.FileIO):
    """A descriptor whose bytes are dropped from the first error on, such as a closed pipe."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._dropping = False

    def write(self, data: Any) -> int:
        """Write, or drop."""
        if self._dropping:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._dropping = True
            # A reader that has enough, as `head` has, is no news.
            if error.errno != errno.EPIPE and self.fileno() != _STDERR:
                print(f"output could not be written: {error.strerror}", file=sys.stderr)
            return len(data)


def guard_streams() -> None:
    """Keep this process running when stdout or stderr is closed, full or has lost its reader.

    What it stores and its exit code are the same as with them. Streams that were replaced by others
    (pytest, notebooks) are left alone.
    """
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        _open_if_closed(descriptor)
    # stderr first, for errors of stdout are printed there.
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open_stream(_STDERR, sys.stderr)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open_stream(_STDOUT, sys.stdout)


def _open_if_closed(descriptor: int) -> None:
    """Make a descriptor refer to something, or the next file that is opened gets its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)


def _open_stream(descriptor: int, old: TextIO | None) -> TextIO:
    """A text stream like the `old` one, which is None if its descriptor was closed."""
    if old is not None:
        old.flush()
    encoding = getattr(old, "encoding", None) or "utf-8"
    errors = getattr(old, "errors", None) or "backslashreplace"
    file = _DroppingFile(descriptor)
    # stderr is never kept back, as Python's own is not.
    buffered = descriptor == _STDOUT and not file.isatty()
    return io.TextIOWrapper(io.BufferedWriter(file), encoding, errors, line_buffering=not buffered)
