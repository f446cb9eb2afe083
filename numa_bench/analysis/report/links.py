"""Links from the page to files of a study, and to no other files."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


class Links:
    """Turns a record's paths into relative URLs for a page in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._from = directory.resolve()
        self._roots: dict[str, Path] = {}

    def study_url(self, study_dir: str, path: object) -> str | None:
        """A URL relative to the page, quoted; None unless the file exists inside the study.

        Paths that are absolute, or lead out of the study by ".." or a symbolic link, get none.
        """
        if not isinstance(path, str) or not path or Path(path).is_absolute() or "\0" in path:
            return None
        root = self._roots.setdefault(study_dir, Path(study_dir).resolve())
        try:
            target = (root / path).resolve()
            inside = target.is_relative_to(root) and target.is_file()
        except OSError:  # a name that is too long, or a loop of links
            return None
        return self.relative_url(target) if inside else None

    def relative_url(self, target: Path) -> str:
        """The URL of a file or directory. The leading dot keeps "a:b" from being a scheme."""
        url = quote(Path(os.path.relpath(target.resolve(), self._from)).as_posix())
        return url if url.startswith(".") else f"./{url}"
