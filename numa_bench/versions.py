"""Where this project is installed, and the versions of installed packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The directory that holds the package: a checkout, or site-packages.
PROJECT = Path(__file__).resolve().parent.parent


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of these packages, without those that are not installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
