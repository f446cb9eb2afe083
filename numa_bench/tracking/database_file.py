"""MLflow's database file: whether MLflow can use it, and its creation.

MLflow itself would retry for minutes before it said that it cannot use a file, and it never
completes one in whose creation it was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from numa_bench.isolation.scratch import hold_scratch
from numa_bench.tracking.base import TrackingError

#: sqlite:///relative or sqlite:////absolute, without options. Other forms are left to MLflow.
_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?!:memory:|file:)([^?]+)")
#: How each file begins that SQLite wrote (https://sqlite.org/fileformat.html, section 1.3).
_HEADER = b"SQLite format 3\0"


def check_database(uri: str) -> None:
    """Raise TrackingError if the file of an SQLite URI cannot be opened for writing, or created.

    MLflow creates missing directories above it. Nothing is created here.
    """
    found = _FILE.fullmatch(uri)
    problem = _find_problem(Path(found[1])) if found else None
    if problem is not None:
        raise TrackingError(f"{problem}; correct that, or set another tracking.mlflow.uri")


def create_database(uri: str, create: Callable[[str], object]) -> None:
    """Create the file of an SQLite URI where there is none, whole or not at all.

    `create` makes the file of the URI that it gets. Raises OSError.
    """
    found = _FILE.fullmatch(uri)
    if found is None or os.path.exists(found[1]):  # noqa: PTH110
        return
    path = Path(found[1]).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_scratch() as scratch:
        made = scratch / path.name
        create(f"sqlite:///{made}")
        _place_file(made, path)


def _place_file(made: Path, path: Path) -> None:
    """Copy a file to where there may be one meanwhile, which then stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        shutil.copyfile(made, name)
        # As SQLite creates it; mkstemp's file is for its owner only.
        shutil.copymode(made, name)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _find_problem(path: Path) -> str | None:
    # os.path: pathlib raises PermissionError below a directory that cannot be entered.
    above = next(parent for parent in path.absolute().parents if os.path.exists(parent))  # noqa: PTH110
    if not above.is_dir():
        return f"{above} is no directory, so that {path} cannot be created"
    # SQLite writes its journal beside an existing file.
    if not os.access(above, os.W_OK | os.X_OK):
        return f"{above} is not writable, so that MLflow cannot use {path}"
    if not os.path.exists(path):  # noqa: PTH110
        return None
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} is not writable"
    if not path.is_file() or not _is_database(path):
        return f"{path} is no SQLite database"
    return None


def _is_database(path: Path) -> bool:
    """Whether a file is empty or begins as those of SQLite do; True if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_HEADER)) in (b"", _HEADER)
    except OSError:
        return True
