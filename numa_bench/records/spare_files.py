"""Where results are kept in the temporary directory while a study's own disk takes none.

The place is derived from the study's path, so that the next start finds it. Nothing measured is
removed from there before it is in the study; what belongs to no study any more is renamed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from numa_bench.errors import StoreError
from numa_bench.jsonio import flush_directory, write_text
from numa_bench.records import Record
from numa_bench.records.journal import merge_records
from numa_bench.study_files import RESULTS, hash_owner, read_records, run_paths

logger = logging.getLogger(__name__)
#: The warning of a record whose raw samples are not in the study.
RAW_DATA = "raw_data"
#: Room that a start must find in a study's directory: its plan, its log and the first record.
LEAST_ROOM = 65_536


def spare_results(study: Path) -> Path:
    """The file for a study's records that its own disk did not take; it need not exist."""
    return Path(tempfile.gettempdir()) / f"numa_bench-{hash_owner(study)}" / RESULTS


def write_spare_results(study: Path, text: str) -> Path:
    """Write a study's records to the temporary directory; return the file. Raises OSError."""
    path = spare_results(study)
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    if not _is_own(path.parent, stat.S_ISDIR):  # whoever made it could replace our file
        path = Path(tempfile.mkdtemp(prefix="numa_bench-")) / RESULTS
    write_text(path, text)
    return path


def find_spare_results(study: Path) -> Path | None:
    """The spare records that an earlier start of this user left; None if there are none."""
    path = spare_results(study)
    return path if _is_own(path.parent, stat.S_ISDIR) and is_own_file(path) else None


def remove_spare_results(path: Path) -> None:
    """Remove spare records, when the study has them."""
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def adopt_records(
    stored: Mapping[str, Record], study: Path
) -> tuple[dict[str, Record], Path | None]:
    """What a study has to store of what an earlier start left in the temporary directory.

    Returns the records, by run, and the file that is to be removed when they are stored. Raw
    samples are moved into the study. Raises OSError when there is no room for them.
    """
    spare = find_spare_results(study)
    records, changed = dict(stored), dict[str, Record]()
    if spare is not None:
        try:
            found = read_records(spare)
        except StoreError as error:
            logger.warning("%s; it is kept as %s", error, set_file_aside(spare))
            spare, found = None, []
        changed = {record["run_id"]: record for record in merge_records(stored.values(), found)}
        records |= changed
    for run_id, record in records.items():
        recovered = recover_raw_data(record, study)
        if recovered is not record:
            changed[run_id] = recovered
    return changed, spare


def recover_raw_data(record: Record, study: Path) -> Record:
    """Move a run's raw samples, or those of its workers, from the temporary directory to the study.

    Returns the record without the warning that they are elsewhere; the same record if it has none,
    or if they are lost. Raises OSError when the study has no room for them.
    """
    kept = [line for line in record["warnings"] if f"{RAW_DATA}:" not in line]
    if len(kept) == len(record["warnings"]):
        return record
    run_id = record["run_id"]
    own = run_paths(study, run_id)
    workers = [path.parent.name for path in own.spec.parent.glob(f"*/{own.spec.name}")]
    members = [name for name in workers if not name.startswith("attempt")]
    sets = [run_paths(study, run_id, member) for member in members]
    for paths in sets or [own]:
        if is_own_file(paths.spare_result):
            move_file(paths.spare_result, paths.result)
        if not paths.result.is_file():
            return record
    return {**record, "warnings": kept}


def check_room(directory: Path) -> None:
    """Raise OSError unless `LEAST_ROOM` bytes can be written in a directory."""
    with tempfile.TemporaryFile(dir=directory, prefix=".room-") as file:
        file.write(b"\0" * LEAST_ROOM)
        file.flush()
        os.fsync(file.fileno())  # quotas and network file systems may object only now


def describe_unwritable(directory: Path, error: OSError) -> StoreError:
    """The error of a study's directory that takes no files; a study that is there must stay."""
    ways = "free some space or get write permission"
    if not os.path.lexists(directory / RESULTS):
        ways += ", or choose another directory"
    return StoreError(f"{directory} cannot be written: {error.strerror or error}; {ways}")


def remove_torn_writes(directory: Path, names: Iterable[str]) -> None:
    """Remove what `write_text` left of these files when its process was killed."""
    for name in names:
        for path in directory.glob(f".{name}.*.tmp"):
            with contextlib.suppress(OSError):
                path.unlink()


def move_file(path: Path, target: Path) -> None:
    """Move a file to another file system if need be; the old one goes last. Raises OSError."""
    try:
        path.replace(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    incomplete = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(path, incomplete)
        with incomplete.open("rb") as file:
            os.fsync(file.fileno())
        incomplete.replace(target)
    finally:
        incomplete.unlink(missing_ok=True)
    flush_directory(target.parent)
    path.unlink()


def set_file_aside(path: Path) -> Path:
    """Rename a file to NAME.1, or NAME.2 if that is taken, and so on; return it. Raises OSError."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.{number}")
        if not target.exists():
            return path.rename(target)
    raise AssertionError("unreachable")


def is_own_file(path: Path) -> bool:
    """Whether a path is a regular file of this user that nobody else can write."""
    return _is_own(path, stat.S_ISREG)


def _is_own(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path, itself and not where it links to, is of this kind and of this user alone."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return kind(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
