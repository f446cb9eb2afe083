"""The files of a run before its worker starts: its spec, and what earlier ones left."""

from __future__ import annotations

import shutil
from pathlib import Path

from numa_bench.jsonio import write_json
from numa_bench.records import RunSpec
from numa_bench.records.spare_files import (
    is_own_file,
    move_file,
    remove_torn_writes,
    set_file_aside,
)
from numa_bench.study_files import REMOVABLE, RunPaths


def prepare_files(spec: RunSpec, paths: RunPaths, keep: Path | None) -> None:
    """Write a spec, and move files of an earlier attempt to `keep`; None: there was no attempt.

    Nothing that may be a measurement is removed. Raises OSError.
    """
    if keep is not None:
        _keep_files(paths, keep)
    for left in (paths.result, paths.spare_result):
        if is_own_file(left):  # of no attempt of this study
            set_file_aside(left)
        left.unlink(missing_ok=True)  # a link, or a file of somebody else's making
    remove_torn_writes(paths.spec.parent, (paths.spec.name, paths.result.name))
    paths.started.unlink(missing_ok=True)
    paths.stdout.parent.mkdir(parents=True, exist_ok=True)
    if spec.profile.kind == "nsys":  # nsys does not create it
        paths.report.parent.mkdir(parents=True, exist_ok=True)
    # No measurement: a run that a power failure ends is measured again, from the same settings.
    write_json(paths.spec, spec.to_dict(), flush_content=False, flush_name=False)


def count_prepared(paths: RunPaths) -> int:
    """Attempts at a run whose files are there: kept ones, and one that was not kept yet."""
    spec = paths.spec
    names = (path.name.removeprefix("attempt") for path in spec.parent.glob("attempt*"))
    kept = max((int(name) for name in names if name.isdigit()), default=0)
    return kept + spec.is_file()


def remove_files(study: Path) -> None:
    """Remove the files of an earlier study that `REMOVABLE` names. Raises OSError."""
    for name in REMOVABLE:
        path = study / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _keep_files(paths: RunPaths, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    files = (paths.spec, paths.result, paths.monitor, paths.stdout, paths.stderr)
    nsys = (paths.nsys_result, paths.nsys_stdout, paths.nsys_stderr)
    for path in (*files, *nsys, paths.report, paths.sqlite, paths.trace):
        if path.is_file():
            path.replace(keep / path.name)
    # The attempt measured, but its study had no room, and no record says so.
    if is_own_file(paths.spare_result):
        kept = keep / paths.result.name
        move_file(paths.spare_result, kept if not kept.exists() else keep / "spare_result.json")
