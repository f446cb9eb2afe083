"""Small facts that the worker and the runner both record, found out in one way."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def kernel_setting(path: Path) -> str | None:
    """A kernel setting; of `always [madvise] never` the chosen word. None where it is not told."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions; a package that is not installed is left out."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
