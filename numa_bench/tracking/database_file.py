"""Whether MLflow can use a database file. It would itself retry for minutes before it said so."""

from __future__ import annotations

import os
import re
from pathlib import Path

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
