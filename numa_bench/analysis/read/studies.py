"""Study directories as they are found on disk, also unfinished, old or broken ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json
from numa_bench.machine.model import Topology
from numa_bench.records import JsonDict, Record
from numa_bench.records.upgrade import complete_summary
from numa_bench.redaction import clean_data, clean_text
from numa_bench.study_files import (
    OVERRIDES,
    RESULTS,
    SUMMARY,
    SWEEPS,
    TOPOLOGY,
    describe_repeated,
    parse_records,
)
from numa_bench.study_search import find_studies, find_sweep, read_yaml

#: Directories of the output root that are no studies, or only when named.
_NOT_STUDIES = ("analysis",)
_ONLY_BY_NAME = ("debug", "dry_run")


@dataclass(frozen=True)
class Problem:
    """A file, or some of its records, that was skipped, with the reason."""

    path: str
    reason: str

    def to_dict(self) -> JsonDict:
        return asdict(self)


@dataclass(frozen=True)
class Study:
    """A study as its directory describes it. `running`: runs are missing and it was not stopped.

    `environments` are by id, as in experiment_summary.json; `topology` as in topology.json.
    `repeats_history` are the repeats after which results may have been looked at, the last being
    those of now; empty for studies from before it was recorded. `sweep` is the directory of the
    sweep that the study is a job of, `overrides` are then those of the job.
    """

    directory: str
    name: str
    recorded: int
    counts: dict[str, int]
    planned: int | None = None
    running: bool = False
    order: str | None = None
    started: str | None = None
    updated: str | None = None
    conditions: tuple[str, ...] = ()
    environments: dict[str, JsonDict] = field(default_factory=dict)
    topology: JsonDict | None = None
    repeats_history: tuple[int, ...] = ()
    sweep: str | None = None
    overrides: tuple[str, ...] = ()

    def to_dict(self) -> JsonDict:
        return asdict(self)


def find_results(root: Path | str, name: str = "all", *, key: str = "root") -> list[Path]:
    """Every results.json of the studies of this name below an output root, sorted.

    They are `root/<name>/**` and `root/multirun/<name>/**`. "all" leaves out debug runs, dry runs
    and what the analysis wrote. `key` is the setting that named the root, for errors. Raises
    StoreError when there is no such root, or nothing in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"{root}: no such directory; give the directory that holds the studies")
    # The given directory may be a study itself.
    if (root / RESULTS).is_file() and name == "all":
        return [root / RESULTS]
    tops = [p for base in (root, root / SWEEPS) for p in _children(base)]
    names = sorted({p.name for p in tops} - {SWEEPS, *_NOT_STUDIES})
    wanted = [n for n in names if n == name or (name == "all" and n not in _ONLY_BY_NAME)]
    studies = [s for p in tops if p.name in wanted for s in find_studies(p)]
    found = sorted(study / RESULTS for study in studies)
    if found:
        return found
    others = [n for n in names if any(find_studies(p) for p in tops if p.name == n)]
    if not others or key != "root":
        raise StoreError(f"{key}={root}: no study is there; give the output.root of the runner")
    raise StoreError(
        f"experiment_name={name}: no results.json of it below {root}; choose one of "
        f"{', '.join(others)}"
    )


def expand_paths(paths: Sequence[Path | str]) -> list[Path]:
    """The results.json that each path is or holds, each once. Raises StoreError for one that is
    neither a file nor a directory with studies."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise StoreError(f"results={path}: no such file; give results.json or its directory")
        for file in [path] if path.is_file() else find_results(path, key="results"):
            # Resolved, so that a study named twice does not count twice.
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_records(path: Path) -> tuple[list[Record], list[Problem]]:
    """The records of one results.json that can be used, and what was skipped of it."""
    try:
        parsed = parse_records(path)
    except (OSError, ValueError) as error:
        return [], [Problem(str(path), f"cannot be read: {error}")]
    problems = [
        Problem(str(path), f"{count} of {parsed.total} records skipped: {clean_text(reason)}")
        for reason, count in parsed.skipped.items()
    ]
    if parsed.repeated:
        problems.append(Problem(str(path), clean_text(describe_repeated(parsed.repeated))))
    return [cast(Record, clean_data(record)) for record in parsed.records], problems


def read_study(path: Path, records: Sequence[Record]) -> tuple[Study, list[Problem]]:
    """The files beside a results.json; a summary that is missing or broken is a problem."""
    directory, problems = path.parent, []
    parts: list[JsonDict] = []
    for name in (SUMMARY, TOPOLOGY):
        try:
            found = clean_data(read_json(directory / name))
            if not isinstance(found, dict):
                raise ValueError("is no object")
            if name == TOPOLOGY:
                Topology.from_dict(found)
        except (OSError, ValueError, RecursionError) as error:
            # Records alone are enough for the statistics, so this is no error.
            reason = (
                "is missing" if isinstance(error, FileNotFoundError) else f"unreadable: {error}"
            )
            problems.append(Problem(str(directory / name), f"{reason}; the runs are used"))
            found = {}
        parts.append(found)
    summary, topology = complete_summary(parts[0]), parts[1]
    planned = summary["planned"]
    study = Study(
        directory=str(directory),
        name=summary["study"] or (records[0]["study"] if records else directory.name),
        recorded=len(records),
        counts=dict(Counter(record["status"] for record in records)),
        planned=planned,
        running=planned is not None and len(records) < planned and not summary["interrupted"],
        order=summary["order"],
        started=summary["started"],
        updated=summary["updated"],
        conditions=tuple(summary["conditions"]),
        environments=summary["environments"],
        topology=topology or None,
        repeats_history=tuple(summary["repeats_history"]),
        **_read_sweep(directory),
    )
    return study, problems


def _read_sweep(directory: Path) -> JsonDict:
    """The sweep of a job's directory, and the job's overrides; nothing for any other study."""
    sweep = find_sweep(directory)
    if sweep is None:
        return {}
    try:
        words = read_yaml(directory / OVERRIDES)
    except StoreError:  # its axes are then unknown
        words = None
    known = words if isinstance(words, list) else []
    return {
        "sweep": clean_text(str(sweep)),
        "overrides": tuple(clean_text(str(word)) for word in known),
    }


def _children(base: Path) -> list[Path]:
    """The directories in `base` that are not hidden: incomplete copies of `collect` are."""
    paths = sorted(base.iterdir()) if base.is_dir() else []
    return [path for path in paths if path.is_dir() and not path.name.startswith(".")]
