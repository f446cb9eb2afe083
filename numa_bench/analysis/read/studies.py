"""Study directories as they are found on disk, also unfinished, old or broken ones."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json
from numa_bench.metric_registry import METRICS
from numa_bench.records import SCHEMA_VERSION, JsonDict, Status

RESULTS = "results.json"
#: Directories of the output root that are no studies, or only when named.
_NOT_STUDIES = ("analysis",)
_ONLY_BY_NAME = ("debug", "dry_run")
_MULTIRUN = "multirun"
#: From a schema version to the next: the place for a migration. Each changes the record it gets.
MIGRATIONS: dict[int, Callable[[JsonDict], None]] = {}
_TEXTS = ("study", "run_id", "host", "placement", "vit_name", "start_time")


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

    def to_dict(self) -> JsonDict:
        return asdict(self)


def find_results(root: Path | str, name: str = "all") -> list[Path]:
    """Every results.json of the studies of this name below an output root, sorted.

    They are `root/<name>/**` and `root/multirun/<name>/**`. "all" leaves out debug runs, dry runs
    and what the analysis wrote. Raises StoreError when there is no such root, or nothing in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"{root}: no such directory; give the directory that holds the studies")
    if (root / RESULTS).is_file() and name == "all":
        return [root / RESULTS]
    tops = [p for base in (root, root / _MULTIRUN) for p in _children(base)]
    names = sorted({p.name for p in tops} - {_MULTIRUN, *_NOT_STUDIES})
    wanted = [n for n in names if n == name or (name == "all" and n not in _ONLY_BY_NAME)]
    found = sorted(f for p in tops if p.name in wanted for f in _results_below(p))
    if not found:
        have = ", ".join(names) or "nothing"
        raise StoreError(f"experiment_name={name}: no results.json of it below {root}; has {have}")
    return found


def _results_below(top: Path) -> Iterator[Path]:
    """Not inside a study: trackers keep copies of its files there."""
    for folder, below, files in os.walk(top):
        if RESULTS in files:
            below.clear()
            yield Path(folder) / RESULTS


def expand_paths(paths: Sequence[Path | str]) -> list[Path]:
    """The results.json that each path is or holds, each once. Raises StoreError for one that is
    neither a file nor a directory with studies."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise StoreError(f"results={path}: no such file; give results.json or its directory")
        for file in [path] if path.is_file() else find_results(path):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_records(path: Path) -> tuple[list[JsonDict], list[Problem]]:
    """The records of one results.json that can be used, and what was skipped of it."""
    try:
        data = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        return [], [Problem(str(path), f"cannot be read: {error}")]
    if not isinstance(data, list):
        return [], [Problem(str(path), "is no array of records")]
    records: list[JsonDict] = []
    reasons: Counter[str] = Counter()
    for item in data:
        try:
            records.append(_checked(item))
        except ValueError as error:
            reasons[str(error)] += 1
    return records, [
        Problem(str(path), f"{count} of {len(data)} records skipped: {reason}")
        for reason, count in reasons.items()
    ]


def read_study(path: Path, records: Sequence[JsonDict]) -> tuple[Study, list[Problem]]:
    """What stands beside a results.json; a summary that is missing or broken is a problem."""
    directory, problems = path.parent, []
    parts: list[JsonDict] = []
    for name in ("experiment_summary.json", "topology.json"):
        try:
            found = read_json(directory / name)
            if not isinstance(found, dict):
                raise ValueError("is no object")
        except (OSError, ValueError, RecursionError) as error:
            reason = (
                "is missing" if isinstance(error, FileNotFoundError) else f"unreadable: {error}"
            )
            problems.append(Problem(str(directory / name), f"{reason}; the runs are used"))
            found = {}
        parts.append(found)
    summary, topology = parts
    planned = summary.get("planned")
    planned = planned if isinstance(planned, int) else None
    environments = summary.get("environments")
    environments = environments if isinstance(environments, dict) else {}
    study = Study(
        directory=str(directory),
        name=str(summary.get("study") or (records[0]["study"] if records else directory.name)),
        recorded=len(records),
        counts=dict(Counter(record["status"] for record in records)),
        planned=planned,
        running=planned is not None and len(records) < planned and not summary.get("interrupted"),
        order=_text(summary.get("order")),
        started=_text(summary.get("started")),
        updated=_text(summary.get("updated")),
        conditions=tuple(map(str, summary.get("conditions") or ())),
        environments={k: v for k, v in environments.items() if isinstance(v, dict)},
        topology=topology or None,
    )
    return study, problems


def _children(base: Path) -> list[Path]:
    return [p for p in sorted(base.iterdir()) if p.is_dir()] if base.is_dir() else []


def _checked(item: Any) -> JsonDict:
    """A record of the current schema. Raises ValueError with the reason it cannot be used."""
    if not isinstance(item, dict):
        raise ValueError("not an object")
    record = _migrated(item)
    for name in _TEXTS:
        if not isinstance(record.get(name), str):
            raise ValueError(f"{name} is missing or no text")
    if record.get("status") not in {status.value for status in Status}:
        raise ValueError(f"status {record.get('status')!r} is unknown")
    for name in ("vit_config", "test_config"):
        if not isinstance(record.get(name), dict):
            raise ValueError(f"{name} is missing or no object")
    if not isinstance(record.get("repeat"), int):
        raise ValueError("repeat is missing or no number")
    for name in METRICS:
        record[name] = _measured(name, record.get(name))
    return record


def _measured(name: str, value: Any) -> float | None:
    """A metric as it may be used: a finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is no number")
    return value if math.isfinite(value) else None


def _migrated(record: JsonDict) -> JsonDict:
    version = record.get("schema_version")
    if not isinstance(version, int):
        raise ValueError("schema_version is missing")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"schema_version {version} is newer than {SCHEMA_VERSION}, which this program reads; "
            "update it"
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise ValueError(
                f"schema_version {version} is too old, there is no way to {version + 1}"
            )
        MIGRATIONS[version](record)
        version += 1
    return record


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
