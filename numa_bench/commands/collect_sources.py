"""Where `numa-bench collect` copies from: a directory here, or one of another host over ssh."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from numa_bench.errors import StoreError
from numa_bench.study_files import BUSY_LOCK, COLLECTED, STUDY_LOCK, TRACKING_LOCK

#: Not part of a study: locks, and the list of files of a copy.
LEFT_OUT = (STUDY_LOCK, BUSY_LOCK, TRACKING_LOCK, COLLECTED)
#: A host, with or without a user, before the first colon; a path before it makes it a local one.
_REMOTE = re.compile(r"(?P<host>[^/:\s-][^/:\s]*):(?P<path>.+)", re.DOTALL)
#: ssh must not ask for a password behind a line of progress that nobody sees.
_SSH = ("ssh", "-o", "BatchMode=yes")
_BLOCK = 1 << 20

#: SHA-256 of files by path, relative to a directory.
Checksums = dict[str, str]


class Source(Protocol):
    """A directory with studies. All methods raise StoreError with one line."""

    def hash_files(self, below: str = ".") -> Checksums:
        """The checksums of all files below a directory of the source, relative to it."""

    def copy_files(self, below: str, to: Path, checksums: Checksums) -> None:
        """Make `to` a copy of a directory of the source; what is there already is used."""

    def read_texts(self, name: str) -> dict[str, str]:
        """The texts of all files of that name, by the directory that they are in."""


def parse_source(text: str) -> Source:
    """HOST:DIR or a directory here. Raises StoreError for a directory that does not exist."""
    match = _REMOTE.fullmatch(text)
    if match and not Path(text).exists():
        return RemoteSource(match["host"], match["path"])
    if not Path(text).is_dir():
        raise StoreError("no such directory; give HOST:DIR or a directory of this host")
    return LocalSource(Path(text))


@dataclass(frozen=True)
class LocalSource:
    """A directory of this host, or of a file system that is mounted here."""

    root: Path

    def hash_files(self, below: str = ".") -> Checksums:
        return hash_directory(self.root / below)

    def copy_files(self, below: str, to: Path, checksums: Checksums) -> None:
        present = hash_directory(to) if to.is_dir() else {}
        try:
            for name in present.keys() - checksums.keys():
                (to / name).unlink()
            for name, checksum in checksums.items():
                if present.get(name) != checksum:
                    (to / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.root / below / name, to / name)
        except OSError as error:
            raise StoreError(f"{self.root / below} cannot be copied: {error}") from error

    def read_texts(self, name: str) -> dict[str, str]:
        return _read_texts(self.root, name)


@dataclass(frozen=True)
class RemoteSource:
    """A directory of another host, read by ssh and rsync."""

    host: str
    path: str

    def hash_files(self, below: str = ".") -> Checksums:
        left_out = " ".join(f"! -name {shlex.quote(name)}" for name in LEFT_OUT)
        found = self._run_there(
            f"cd {shlex.quote(self.path)} && cd {shlex.quote(below)} && "
            f"find . -type f {left_out} -exec sha256sum -z -- {{}} +"
        )
        return dict(_parse_checksum(item) for item in found.split("\0") if item)

    def copy_files(self, below: str, to: Path, checksums: Checksums) -> None:  # noqa: ARG002
        to.mkdir(parents=True, exist_ok=True)
        # --checksum: a file that an earlier attempt copied half is recognised. --partial resumes.
        options = ["-a", "-s", "--delete", "--partial", "--checksum", "-e", shlex.join(_SSH)]
        options += [f"--exclude={name}" for name in LEFT_OUT]
        place = f"{self.host}:{PurePosixPath(self.path) / below}/"
        _run(["rsync", *options, "--", place, f"{to}/"], self.host)

    def read_texts(self, name: str) -> dict[str, str]:
        found = self._run_there(
            f"cd {shlex.quote(self.path)} && find . -type f -name {shlex.quote(name)} "
            "-printf '%h\\0' -exec cat {} \\; -printf '\\0'"
        )
        parts = found.split("\0")
        return {_clean(path): text for path, text in zip(parts[::2], parts[1::2], strict=False)}

    def _run_there(self, command: str) -> str:
        return _run([*_SSH, "--", self.host, command], self.host)


def hash_directory(root: Path) -> Checksums:
    """The checksums of all files below a directory; links to directories are not followed.

    Raises StoreError.
    """
    found: Checksums = {}
    try:
        for folder, _, names in os.walk(root, onerror=_raise):
            for name in names:
                path = Path(folder) / name
                if name not in LEFT_OUT and path.is_file():
                    found[path.relative_to(root).as_posix()] = hash_file(path)
    except OSError as error:
        raise StoreError(f"{root} cannot be read: {error}") from error
    return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error


def _read_texts(root: Path, name: str) -> dict[str, str]:
    try:
        return {
            path.parent.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in root.rglob(name)
        }
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{root} cannot be read: {error}") from error


def _parse_checksum(item: str) -> tuple[str, str]:
    checksum, _, path = item.partition("  ")
    return _clean(path), checksum


def _clean(path: str) -> str:
    """A path that `find .` printed, below the directory that it started in."""
    clean = PurePosixPath(path)
    if clean.is_absolute() or ".." in clean.parts:
        raise StoreError(f"{path}: not a path below the source")
    return clean.as_posix()


def _run(command: Iterable[str], host: str) -> str:
    words = list(command)
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise StoreError(f"{words[0]} is not installed; install it, or mount {host}") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        raise StoreError(reason if reason.startswith(words[0]) else f"{words[0]}: {reason}")
    return done.stdout.decode(errors="surrogateescape")
