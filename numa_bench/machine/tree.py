"""Read files of /sys and /proc below a root directory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from numa_bench.errors import MachineError
from numa_bench.records.cpu_lists import parse_cpu_list


@dataclass
class Tree:
    """The files below a root, and notes on those that are missing.

    A missing file is read as None, because kernels differ in what they provide. A file that cannot
    be read or parsed raises MachineError, because numbers derived from it would be guesses.
    """

    root: Path
    notes: list[str] = field(default_factory=list)

    def read_text(self, path: str) -> str | None:
        try:
            raw = (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error
        # Captures made by reading whole pages end in NUL bytes.
        return raw.decode("ascii", errors="replace").strip(" \t\n\0")

    def list_names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise self._unreadable(path, error) from error

    def is_dir(self, path: str) -> bool:
        try:
            return (self.root / path).is_dir()
        except OSError as error:  # no permission to search a parent; a missing path is not an error
            raise self._unreadable(path, error) from error

    def read_id_list(self, path: str) -> tuple[int, ...] | None:
        text = self.read_text(path)
        try:
            return None if text is None else parse_cpu_list(text)
        except ValueError as error:
            raise self.make_malformed_error(path, text, "a list such as 0-3,8") from error

    def read_numbers(self, path: str) -> list[int] | None:
        text = self.read_text(path)
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,9}(\s+-?[0-9]{1,9})*", text):
            raise self.make_malformed_error(path, text, "numbers")
        return [int(word) for word in text.split()]

    def make_malformed_error(self, path: str, text: str | None, wanted: str) -> MachineError:
        return MachineError(
            f"{self.root / path} contains {(text or '')[:40]!r} instead of {wanted}: "
            "the tree is damaged; capture it again or give another root"
        )

    def _unreadable(self, path: str, error: OSError) -> MachineError:
        return MachineError(
            f"{self.root / path} cannot be read ({error.strerror}): "
            "check its permissions or give another root"
        )
