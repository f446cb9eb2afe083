"""Temporary directories of nsys and of checks; the next study removes those of a killed process.

The owner of a directory holds a lock (flock(2)) on it, which the kernel frees when it dies. Only
directories of this prefix are removed: nothing measured is kept in one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "numa_bench-scratch-"


@contextlib.contextmanager
def hold_scratch() -> Iterator[Path]:
    """A temporary directory of this process alone. Raises OSError when none can be made."""
    path, handle = _make_locked()
    try:
        yield path
    finally:
        # A daemon of nsys that ends late may still write there.
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def remove_stale_scratch() -> None:
    """Remove directories of this user whose owner has died."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # removed meanwhile, or somebody else's
            if path.lstat().st_uid != os.getuid():
                continue
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _make_locked() -> tuple[Path, int]:
    """A new directory, and the descriptor that locks it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        # A file system without flock(2) never lets anybody remove it either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if path.is_dir():  # not removed by another start before it was locked
            return path, handle
        os.close(handle)
