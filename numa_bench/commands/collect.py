"""Copies studies of several hosts into one directory: numa-bench collect HOST:DIR... --into DIR.

A study is copied to a temporary name, compared file by file with its source by SHA-256, and renamed
into place with the list of its checksums. What has no such list was not collected.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from numa_bench.commands.collect_sources import (
    Checksums,
    Source,
    hash_directory,
    hash_file,
    parse_source,
)
from numa_bench.config.checks import check_name
from numa_bench.errors import ConfigError, StoreError
from numa_bench.jsonio import flush_directory, read_object, write_json
from numa_bench.records import Record
from numa_bench.records.upgrade import complete_summary
from numa_bench.study_files import COLLECTED, MULTIRUN, RESULTS, SUMMARY, TRACKING, read_records
from numa_bench.study_search import find_studies
from numa_bench.terminal.lines import print_error, print_line

#: Below the target: copies that are not complete. Hidden, and never taken for a study's name.
STAGING = ".collect"
#: How often a study that changes while it is copied is copied again.
ATTEMPTS = 2


@dataclass(frozen=True)
class Part:
    """A study or a sweep of a source: its directory there, its files, its name and host."""

    path: str
    checksums: Checksums
    study: str
    host: str
    sweep: bool

    def target(self, into: Path) -> Path:
        """Its directory here: found by the analysis under its study's name, apart by host."""
        base = into / "multirun" if self.sweep else into
        tail = [part for part in PurePosixPath(self.path).parts if part != "multirun"]
        tail = tail[tail.index(self.study) + 1 :] if self.study in tail else tail
        return base / self.study / self.host / Path(*tail)


@dataclass
class Tally:
    """What became of the studies of one source."""

    copied: int = 0
    known: int = 0
    files: int = 0

    def describe(self) -> str:
        """ "3 studies copied (412 files, verified), 1 already there"."""
        parts = [f"{self.copied} {_plural(self.copied)} copied ({self.files} files, verified)"]
        parts += [f"{self.known} already there"] if self.known else []
        return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Collect every source; one line for each. 1 if a source failed, 2 for a wrong command."""
    parser = argparse.ArgumentParser(prog="numa-bench collect", description=__doc__.splitlines()[0])
    parser.add_argument(
        "sources", nargs="+", metavar="HOST:DIR", help="a study, a sweep or an output root"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="the output root")
    args = parser.parse_args(argv)
    failed = False
    for text in args.sources:
        tally = Tally()
        try:
            collect_source(text, args.into, tally)
        except (StoreError, ConfigError) as error:
            failed = True
            done = f"; before that {tally.describe()}" if tally.copied + tally.known else ""
            print_error(f"{text}: {error}{done}")
        else:
            print_line(f"{text}: {tally.describe()}")
    return 1 if failed else 0


def collect_source(text: str, into: Path, tally: Tally) -> None:
    """Copy all studies of one source; `tally` counts them. Raises StoreError or ConfigError.

    Repeating it copies what is missing and continues what was interrupted.
    """
    source = parse_source(text)
    parts = list_parts(source)
    if not parts:
        raise StoreError(f"there is no {RESULTS} in it; give a study or an output root")
    for part in parts:
        target = part.target(into)
        if is_intact(target, part.checksums):
            tally.known += 1
            continue
        staging = into / STAGING / _key(text, part.path)
        staging.parent.mkdir(parents=True, exist_ok=True)
        with _alone(staging):
            checksums = _copy_verified(source, part, staging)
            about = {"source": text, "path": part.path, "host": part.host}
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            write_json(staging / COLLECTED, {**about, "collected": now, "files": checksums})
            _publish(staging, target)
        tally.copied += 1
        tally.files += len(checksums)
    with contextlib.suppress(OSError):  # another collect may be at work there
        (into / STAGING).rmdir()


def list_parts(source: Source) -> list[Part]:
    """The studies and sweeps of a source, without those inside of others. Raises StoreError."""
    files = source.hash_files()
    roots = {str(PurePosixPath(f).parent) for f in files if PurePosixPath(f).name == RESULTS}
    sweeps = {str(PurePosixPath(f).parent) for f in files if PurePosixPath(f).name == str(MULTIRUN)}
    # A job belongs to its sweep.
    parents = {str(PurePosixPath(root).parent) for root in roots}
    kept = {root for root in roots if str(PurePosixPath(root).parent) not in sweeps}
    kept |= sweeps & parents
    summaries = source.read_texts(SUMMARY)
    return [_make_part(path, files, summaries, path in sweeps) for path in sorted(kept)]


def _make_part(path: str, files: Checksums, summaries: dict[str, str], sweep: bool) -> Part:
    prefix = "" if path == "." else f"{path}/"
    own = {name.removeprefix(prefix): c for name, c in files.items() if name.startswith(prefix)}
    below = [text for at, text in sorted(summaries.items()) if f"{at}/".startswith(prefix)]
    study = host = ""
    for text in below:
        with contextlib.suppress(ValueError, AttributeError):  # not JSON, or no object
            summary = complete_summary(json.loads(text))
            study = study or summary["study"]
            host = host or str(summary["machine"].get("host") or "")
    if not study or not host:
        raise StoreError(f"{path}: {SUMMARY} does not name study and host; was it ever started?")
    # Both become names of directories here.
    check_name("study", study)
    check_name("host", host)
    return Part(path, own, study, host, sweep)


def _copy_verified(source: Source, part: Part, staging: Path) -> Checksums:
    """Copy one part until copy and source agree; returns its checksums."""
    checksums = part.checksums
    for _ in range(ATTEMPTS):
        (staging / COLLECTED).unlink(missing_ok=True)
        source.copy_files(part.path, staging, checksums)
        copied = hash_directory(staging)
        checksums = source.hash_files(part.path)
        if copied == checksums:
            return checksums
    differing = {name for name in copied | checksums if copied.get(name) != checksums.get(name)}
    raise StoreError(
        f"{part.path}: {len(differing)} files differ from their source after {ATTEMPTS} copies, "
        f"such as {min(differing)}; if the study is running, collect it when it has ended"
    )


def is_intact(copy: Path, checksums: Checksums) -> bool:
    """Whether a copy was made of these files and still has them, unchanged.

    What a tracker notes about a copy is its own, and files may be added to it. Raises StoreError.
    """
    if read_object(copy / COLLECTED).get("files") != checksums:
        return False
    present = hash_directory(copy)
    return all(
        present.get(name) == checksum
        for name, checksum in checksums.items()
        if PurePosixPath(name).name != TRACKING
    )


def _keep_tracking(old: Path, new: Path) -> None:
    """Take over what trackers were fed from the older copy: nothing is fed twice."""
    listed = read_object(old / COLLECTED).get("files") or {}
    for path in old.rglob(TRACKING):
        name = path.relative_to(old)
        if listed.get(name.as_posix()) != hash_file(path) and (new / name.parent).is_dir():
            shutil.copy2(path, new / name)


def _publish(staging: Path, target: Path) -> None:
    """Rename a verified copy into place. An older copy of the same study makes room for it."""
    old = staging.with_name(f"{staging.name}.old")
    try:
        if target.exists():
            if not continues_study(target, staging):
                raise StoreError(
                    f"{target} holds a different study; choose another --into, or move it away"
                )
            _keep_tracking(target, staging)
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        flush_directory(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error}") from error


def continues_study(old: Path, new: Path) -> bool:
    """Whether `new` has every run that `old` has, of the same start or a later attempt."""
    for study in find_studies(old):
        later = {r["run_id"]: r for r in _read(new / study.relative_to(old))}
        for record in _read(study):
            match = later.get(record["run_id"])
            if match is None or match["attempt"] < record["attempt"]:
                return False
            same = match["attempt"] == record["attempt"]
            if match["host"] != record["host"]:
                return False
            if same and match["start_time"] != record["start_time"]:
                return False
    return bool(find_studies(old))


def _read(study: Path) -> list[Record]:
    return read_records(study / RESULTS) if (study / RESULTS).is_file() else []


@contextlib.contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Hold one copy: two collects of the same source would mix their files."""
    lock = FileLock(staging.with_name(f"{staging.name}.lock"), timeout=0)
    try:
        with lock:
            yield
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise StoreError("another collect is copying it; wait for it to end") from None


def _key(source: str, path: str) -> str:
    return hashlib.sha256(f"{source}\0{path}".encode()).hexdigest()[:16]


def _plural(count: int) -> str:
    return "study" if count == 1 else "studies"
