"""What a profiler recorded, in one form for all: work on the GPU, calls and ranges of the host.

Columns instead of objects, so that a million kernels are a few arrays. All times are int64
nanoseconds from the profiler's own zero; intervals are [start, end).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from numa_bench.redaction import clean_text

if TYPE_CHECKING:
    from pathlib import Path

Int = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Table = TypeVar("Table", bound="Spans")

NOTHING: Int = np.empty(0, np.int64)
#: CUpti_ActivityMemcpyKind and nsys's ENUM_CUDA_MEMCPY_OPER: number to short name. A = CUDA array,
#: U = a migration of unified memory.
COPY_KINDS = {
    0: "unknown",
    1: "H2D",
    2: "D2H",
    3: "H2A",
    4: "A2H",
    5: "A2A",
    6: "A2D",
    7: "D2A",
    8: "D2D",
    9: "H2H",
    10: "P2P",
    11: "U-H2D",
    12: "U-D2H",
    13: "U-D2D",
}
#: Kinds that cross the link between host and GPU, by direction.
TO_DEVICE = (1, 3, 11)
TO_HOST = (2, 4, 12)


@dataclass(frozen=True)
class Spans:
    """Intervals: `start_ns` and `end_ns` of shape (n,), as every other array of a table."""

    start_ns: Int
    end_ns: Int

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def duration_ns(self) -> Int:
        return self.end_ns - self.start_ns

    def select_rows(self: Table, which: Mask | Int) -> Table:
        """The rows that `which` selects; lists of names stay whole."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {k: v[which] for k, v in columns.items() if isinstance(v, np.ndarray)}
        return replace(self, **chosen)

    @classmethod
    def empty(cls: type[Table]) -> Table:
        """A table without rows."""
        columns: dict[str, Any] = dict.fromkeys((f.name for f in fields(cls)), NOTHING)
        if "names" in columns:
            columns["names"] = ()
        return cls(**columns)


@dataclass(frozen=True)
class Work(Spans):
    """Something that ran on a GPU. `process` is the pid (0: unknown); `correlation` identifies the
    host's call that launched it, unique within a process (-1: unknown)."""

    device: Int
    stream: Int
    process: Int
    correlation: Int


@dataclass(frozen=True)
class Kernels(Work):
    """`name` counts into `names`."""

    name: Int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Copies(Work):
    """`kind` as in COPY_KINDS."""

    kind: Int
    bytes: Int


@dataclass(frozen=True)
class Memsets(Work):
    bytes: Int


@dataclass(frozen=True)
class Syncs(Spans):
    """Waits of the host for the GPU, and of streams for events; `name` counts into `names`."""

    name: Int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Calls:
    """Calls of the CUDA runtime and driver, as far as launches need them: start, (n,) each.

    `thread` identifies a thread among all processes.
    """

    start_ns: Int
    thread: Int
    process: Int
    correlation: Int

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True)
class Ranges(Spans):
    """Closed NVTX ranges, or torch's annotations, of the host; `name` counts into `names`."""

    thread: Int
    name: Int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Gpu:
    """A GPU that the report describes; None: not in the report.

    `device` is the number that the tables of work use, `uuid` as NVML writes it ("GPU-...").
    """

    device: int
    name: str | None = None
    pci_address: str | None = None
    memory_bytes: int | None = None
    sm_count: int | None = None
    uuid: str | None = None


@dataclass(frozen=True)
class Source:
    """Where an activity comes from: file, profiler (nsys or torch), its version if known."""

    path: Path
    tool: str
    version: str | None = None


@dataclass(frozen=True)
class Activity:
    """One report. A table without rows was not recorded, or nothing happened: a report of a
    machine without a GPU has ranges only.

    `gpus_identified`: the report maps CUDA's device numbers, which count a process's visible
    devices, to `gpus`. Without it a device is assumed to be the GPU of the same number.
    """

    source: Source
    kernels: Kernels
    copies: Copies
    memsets: Memsets
    syncs: Syncs
    calls: Calls
    ranges: Ranges
    gpus: tuple[Gpu, ...]
    gpus_identified: bool = True

    @property
    def all_work(self) -> tuple[Work, Work, Work]:
        return self.kernels, self.copies, self.memsets

    @property
    def has_gpu_work(self) -> bool:
        return any(len(table) for table in self.all_work)

    @property
    def devices(self) -> tuple[int, ...]:
        """Numbers of the GPUs that did something, sorted."""
        return tuple(
            sorted({int(d) for table in self.all_work for d in distinct_values(table.device)})
        )

    def span_ns(self) -> tuple[int, int]:
        """From the first to the last thing recorded; (0, 0) for an empty report."""
        tables = [t for t in (*self.all_work, self.syncs, self.ranges) if len(t)]
        starts = [int(t.start_ns.min()) for t in tables]
        ends = [int(t.end_ns.max()) for t in tables]
        # Of calls only the start is kept: a launch is over when its work is queued.
        if len(self.calls):
            starts.append(int(self.calls.start_ns.min()))
            ends.append(int(self.calls.start_ns.max()) + 1)  # a window excludes its end
        return (min(starts), max(ends)) if starts else (0, 0)


def distinct_values(values: Int) -> Int:
    """Sorted distinct values; quick where there are few, as of devices and streams."""
    seen: list[int] = []
    rest = values
    while len(rest) and len(seen) < 64:  # one pass each; for more values sorting is quicker
        seen.append(int(rest[0]))
        rest = rest[rest != rest[0]]
    return np.unique(np.concatenate([np.array(seen, np.int64), rest]))


def number_names(texts: Iterable[str]) -> tuple[Int, tuple[str, ...]]:
    """Numbers for texts, in order of appearance, and the texts they count into, to be shown."""
    ids: dict[str, int] = {}
    numbers = np.array([ids.setdefault(text, len(ids)) for text in texts], np.int64)
    return numbers, tuple(map(clean_text, ids))
