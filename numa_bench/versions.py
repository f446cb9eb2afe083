"""Where this project is installed, and the versions of installed packages."""

from __future__ import annotations

import contextlib
import os
import site
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The directory that holds the package: a checkout, or site-packages.
PROJECT = Path(__file__).resolve().parent.parent


def import_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """PYTHONPATH for a child process that is to import this package, or nothing.

    A checkout goes in front of what `environ` has. An installed package is found without it, and
    site-packages on PYTHONPATH would come before the standard library.
    """
    if str(PROJECT) in (*site.getsitepackages(), site.getusersitepackages()):
        return {}
    paths = [str(PROJECT), *filter(None, [environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of these packages, without those that are not installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
