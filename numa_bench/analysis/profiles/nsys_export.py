"""An exported nsys report (SQLite) as an Activity.

Tables that would be empty do not exist in an export, and columns differ between versions, so
everything is selected by name and after looking. Tried with exports of nsys 2022.4 to 2024.2.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from numa_bench.analysis.profiles.activity import (
    NOTHING,
    Activity,
    Calls,
    Copies,
    Gpu,
    Int,
    Kernels,
    Memsets,
    Ranges,
    Source,
    Syncs,
    Work,
    distinct_values,
    number_names,
)
from numa_bench.analysis.profiles.sqlite_columns import (
    ColumnError,
    Columns,
    Export,
    collect_columns,
)
from numa_bench.errors import ReportError
from numa_bench.redaction import clean_text

W = TypeVar("W", bound=Work)
#: A GPU's number by process and CUDA device number.
GpuNumbers = Mapping[tuple[int, int], int]

#: NVTX event types: push/pop and start/end ranges, of the library and of imported text.
_RANGE_TYPES = "(59, 60, 70, 71)"
#: The exporter's metadata, under either of its names.
_META = ("META_DATA_EXPORT", "EXPORT_META_DATA")
_SPAN = {"start_ns": "start", "duration": "end - start"}
#: What kernels, copies and memsets have in common. The pid is inside globalPid.
_WORK = {
    **_SPAN,
    "device": "deviceId",
    "stream": "streamId",
    "process": "(globalPid >> 24) & 16777215",
    "correlation": "correlationId",
}
#: Columns that may be NULL or missing, and the value that then means "unknown".
_OPTIONAL = {"globalPid": "0", "correlationId": "-1", "deviceId": "0", "streamId": "0"}
#: No time of an export is beyond this, 31 years.
MOST_NS = 10**18
#: CUpti_ActivitySynchronizationType.
_SYNC_NAMES = {
    0: "unknown",
    1: "event synchronize",
    2: "stream waits for event",
    3: "stream synchronize",
    4: "context synchronize",
}


def read_sqlite(path: Path) -> Activity:
    """The activity of an exported report. Raises ReportError, in one line that names the file."""
    try:
        with Export(path) as export:
            if "StringIds" not in export.tables or not set(_META) & export.tables.keys():
                raise ReportError(
                    f"{path}: an SQLite file, but not exported by nsys; give a .nsys-rep, the file "
                    "that `nsys export --type sqlite` makes of it, or a torch profiler trace"
                )
            return _read(export)
    except sqlite3.Error as error:
        raise ReportError(
            f"{path}: damaged or cut short ({error}); export it again: "
            "nsys export --type sqlite REPORT.nsys-rep"
        ) from error
    except ColumnError as error:
        raise ReportError(f"{path}: {error}") from error
    except UnicodeError as error:  # sqlite3's of names that are not UTF-8
        raise ReportError(f"{path}: damaged (a name in it is not UTF-8)") from error
    except (TypeError, ValueError, OverflowError) as error:  # such as a text in place of a time
        raise ReportError(f"{path}: damaged (a value of the wrong type: {error})") from error


def _read(export: Export) -> Activity:
    """Read all tables; the large ones are fetched by other threads meanwhile."""
    kernels = _start(export, "CUPTI_ACTIVITY_KIND_KERNEL", {**_WORK, "name": "demangledName"})
    calls = _start(
        export,
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        {"start_ns": "start", "thread": "globalTid", "correlation": "correlationId"},
        _kept_calls(export.tables.get("CUPTI_ACTIVITY_KIND_RUNTIME", set())),
    )
    copies = _start(
        export, "CUPTI_ACTIVITY_KIND_MEMCPY", {**_WORK, "kind": "copyKind", "bytes": "bytes"}
    )
    memsets = _start(export, "CUPTI_ACTIVITY_KIND_MEMSET", {**_WORK, "bytes": "bytes"})
    syncs = _start(export, "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", {**_SPAN, "kind": "syncType"})
    gpus, numbers = _gpus(export), _gpu_numbers(export)
    # Above the numbers of all GPUs, for devices that cannot be identified.
    unknown = 1 + max([*numbers.values(), *(gpu.device for gpu in gpus)], default=0)
    return Activity(
        source=_source(export),
        ranges=_ranges(export),
        gpus=gpus,
        kernels=identify_gpus(_kernels(export, kernels()), numbers, unknown),
        copies=identify_gpus(Copies(**_span(copies())), numbers, unknown),
        memsets=identify_gpus(Memsets(**_span(memsets())), numbers, unknown),
        syncs=_syncs(syncs()),
        calls=_calls(calls()),
        gpus_identified=bool(numbers),
    )


def _start(
    export: Export, table: str, columns: Mapping[str, str], where: str = "1"
) -> Callable[[], Columns]:
    """Start fetching; call the result to wait for it. Without the table: arrays of shape (0,)."""
    if table not in export.tables:
        return lambda: dict.fromkeys(columns, NOTHING)
    have = export.tables[table]
    expressions = {name: _expression(table, have, c) for name, c in columns.items()}
    return partial(collect_columns, export.start_query(table, expressions, where), expressions)


def _expression(table: str, have: set[str], column: str) -> str:
    """A column with a number for "unknown", also where this version has no such column."""
    for name, missing in _OPTIONAL.items():
        # Also inside an expression, such as the shift of globalPid.
        if name in column:
            column = column.replace(name, f"ifnull({name}, {missing})" if name in have else missing)
    # A plain name, or the first one of an expression such as "end - start".
    bare = column.split()[0]
    if bare.isidentifier() and bare not in have:
        raise ColumnError(f"table {table} has no column {bare}: an nsys version not known here")
    return column


def _span(columns: Columns) -> Columns:
    """Start and end; the duration that was fetched instead of the end has fewer digits."""
    start, duration = columns["start_ns"], columns.pop("duration")
    _check_times(start, duration)
    columns["end_ns"] = start + duration
    return columns


def _check_times(*columns: Int) -> None:
    """Raise ColumnError for times with which sums would leave 64 bits."""
    for column in columns:
        if len(column) and not -MOST_NS <= column.min() <= column.max() <= MOST_NS:
            raise ColumnError("times beyond 31 years: damaged?")


def _kernels(export: Export, columns: Columns) -> Kernels:
    name, names = _texts(export.base, columns.pop("name"))
    return Kernels(**_span(columns), name=name, names=names)


def _kept_calls(have: set[str]) -> str:
    """Runtime and driver calls; other event classes repeat their correlation ids."""
    known = "correlationId IS NOT NULL AND globalTid IS NOT NULL"
    return f"{known} AND eventClass IN (0, 1)" if "eventClass" in have else known


def _calls(columns: Columns) -> Calls:
    # globalTid packs several ids: the tid in the low 24 bits, the pid in the next 24.
    return Calls(**columns, process=(columns["thread"] >> 24) & 0xFFFFFF)


def _syncs(columns: Columns) -> Syncs:
    kinds, index = np.unique(columns.pop("kind"), return_inverse=True)
    names = tuple(_SYNC_NAMES.get(int(kind), f"type {kind}") for kind in kinds)
    return Syncs(**_span(columns), name=index, names=names)


def _texts(base: sqlite3.Connection, ids: Int) -> tuple[Int, tuple[str, ...]]:
    """Numbers of StringIds as numbers from 0 on, and the texts they count into."""
    if not len(ids):
        return ids, ()
    low, high = int(ids.min()), int(ids.max())
    # Ids far apart would need a mask much larger than the column itself.
    if high - low > 10 * len(ids) + (1 << 20):
        wanted, numbers = np.unique(ids, return_inverse=True)
    else:  # without sorting a million of them
        used = np.zeros(high - low + 1, np.bool_)
        used[ids - low] = True
        wanted, numbers = np.flatnonzero(used) + low, (np.cumsum(used) - 1)[ids - low]
    texts: dict[int, str] = {}
    # SQLite before 3.32 allows 999 variables in one query.
    for i in range(0, len(wanted), 500):
        some = [int(n) for n in wanted[i : i + 500]]
        query = f"SELECT id, value FROM StringIds WHERE id IN ({','.join('?' * len(some))})"
        texts.update((n, _text(value) or "") for n, value in base.execute(query, some))
    return numbers, tuple(texts.get(int(n), f"[text {n}]") for n in wanted)


def _text(value: object) -> str | None:
    """Bytes that are not UTF-8 become U+FFFD, and so do control characters."""
    return clean_text(value.decode(errors="replace")) if isinstance(value, bytes) else None


def _ranges(export: Export) -> Ranges:
    """Closed ranges. A name is in the row itself (torch) or in StringIds (the nvtx package)."""
    if "NVTX_EVENTS" not in export.tables:
        return Ranges.empty()
    text_id = "e.textId" if "textId" in export.tables["NVTX_EVENTS"] else "NULL"
    # Of ranges that start together the outer one comes first.
    rows: Sequence[tuple[int, int, int, bytes | None]] = export.base.execute(
        "SELECT e.start, e.end, ifnull(e.globalTid, 0), ifnull(e.text, s.value) FROM NVTX_EVENTS e "
        f"LEFT JOIN StringIds s ON s.id = {text_id} "
        f"WHERE e.end IS NOT NULL AND e.eventType IN {_RANGE_TYPES} ORDER BY e.start, e.end DESC"
    ).fetchall()
    start, end, thread = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    name, names = number_names(_text(row[3]) or "[no name]" for row in rows)
    return Ranges(start, end, thread, name, names)


def _gpus(export: Export) -> tuple[Gpu, ...]:
    """All GPUs of the host, by nsys's own number; CUDA's numbers differ, see `_gpu_numbers`."""
    have = export.tables.get("TARGET_INFO_GPU", set())
    if "id" not in have:
        return ()
    wanted = ("name", "busLocation", "totalMemory", "smCount", "uuid")
    columns = ", ".join(name if name in have else "NULL" for name in wanted)
    rows = export.base.execute(f"SELECT id, {columns} FROM TARGET_INFO_GPU ORDER BY 1").fetchall()
    return tuple(
        Gpu(n, _text(name), _text(pci), _count(memory), _count(sms), _uuid(_text(uuid)))
        for n, name, pci, memory, sms, uuid in rows
        if isinstance(n, int)
    )


def _count(value: object) -> int | None:
    """A number above 0, else None: nothing is computed from it, so that it ends no inspection."""
    return value if isinstance(value, int) and value > 0 else None


def _uuid(text: str | None) -> str | None:
    """A GPU's UUID as NVML writes it; None where nsys had none, which it exports as zeros."""
    if not text or not text.strip("0-"):
        return None
    return text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"


def _gpu_numbers(export: Export) -> GpuNumbers:
    """The GPU of every process's CUDA devices. Empty where nsys is too old to export that."""
    columns = ("pid", "cudaId", "gpuId")
    if not set(columns) <= export.tables.get("TARGET_INFO_CUDA_DEVICE", set()):
        return {}
    query = f"SELECT {', '.join(columns)} FROM TARGET_INFO_CUDA_DEVICE"
    return {
        (int(pid), int(cuda)): int(gpu)
        for pid, cuda, gpu in export.base.execute(query)
        if None not in (pid, cuda, gpu)
    }


def identify_gpus(work: W, numbers: GpuNumbers, unknown: int) -> W:
    """The same work with the GPU's number as its device, in place of CUDA's.

    CUDA counts the devices that a process can see, so device 0 of two processes may be two GPUs. A
    device of a process that `numbers` does not have gets the GPU that all processes agree on, or
    else a number from `unknown` on, which no GPU has.
    """
    if not numbers or not len(work):
        return work
    device = np.full_like(work.device, -1)
    for (pid, cuda), gpu in numbers.items():
        device[(work.process == pid) & (work.device == cuda)] = gpu
    for cuda in distinct_values(work.device[device < 0]):
        agreed = {gpu for (_, other), gpu in numbers.items() if other == cuda}
        found = agreed.pop() if len(agreed) == 1 else unknown + int(cuda)
        device[(device < 0) & (work.device == cuda)] = found
    return replace(work, device=device)


def _source(export: Export) -> Source:
    """The version is that of the exporter; nsys may have recorded with an older one."""
    table = next(name for name in _META if name in export.tables)
    meta = dict(export.base.execute(f"SELECT name, value FROM {table}").fetchall())
    # Keys are bytes, as all texts of an Export.
    return Source(export.path, "nsys", _text(meta.get(b"EXPORT_PRODUCT_VERSION")))
