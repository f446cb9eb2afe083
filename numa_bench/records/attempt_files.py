"""The files of a run before its worker starts: its spec, and what an earlier attempt left."""

from __future__ import annotations

from pathlib import Path

from numa_bench.jsonio import write_json
from numa_bench.records import RunSpec
from numa_bench.records.spare_files import is_own_file, move_file, set_file_aside
from numa_bench.study_files import RunPaths


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
    paths.started.unlink(missing_ok=True)
    paths.stdout.parent.mkdir(parents=True, exist_ok=True)
    if spec.profile.kind == "nsys":  # nsys does not create it
        paths.report.parent.mkdir(parents=True, exist_ok=True)
    write_json(paths.spec, spec.to_dict())


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
