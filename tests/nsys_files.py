"""Small exported nsys reports, made by hand in the schemas of several nsys versions.

Only the tables and columns that matter are made, named as the exporter of that version names them,
so that `nsys stats` reads the files too. As in real exports, a table without rows does not exist.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

PRODUCTS = {
    "2022.4": ("2022.4.2.1", "3.0.0"),
    "2023.4": ("2023.4.4.54", "3.7.2"),
    "2024.2": ("2024.2.3.38", "3.11.1"),
}
VERSIONS = tuple(PRODUCTS)
PID = 4242
H2D, D2H, D2D, P2P = 1, 2, 8, 10
PUSH_POP, START_END, MARK, DOMAIN = 59, 60, 34, 75
MS = 1_000_000
COPY_LABELS = [
    "Unknown",
    "Host-to-Device",
    "Device-to-Host",
    "Host-to-Array",
    "Array-to-Host",
    "Array-to-Array",
    "Array-to-Device",
    "Device-to-Array",
    "Device-to-Device",
    "Host-to-Host",
    "Peer-to-Peer",
    "Unified Host-to-Device",
    "Unified Device-to-Host",
    "Unified Device-to-Device",
]

Row = Sequence[int | str | bytes | None]


def global_pid(pid: int) -> int:
    """nsys's number of a process: virtual machine, process, and no thread."""
    return 1 << 48 | pid << 24


@dataclass(frozen=True)
class Kernel:
    """One kernel; times in ns from the start of the session."""

    start: int
    end: int
    name: str | bytes = "gemm"
    correlation: int | None = None
    stream: int = 7
    device: int = 0
    pid: int = PID


@dataclass(frozen=True)
class Copy:
    """One copy; `kind` as in ENUM_CUDA_MEMCPY_OPER."""

    start: int
    end: int
    kind: int
    bytes: int
    correlation: int | None = None
    stream: int = 7
    device: int = 0
    pid: int = PID


@dataclass(frozen=True)
class Memset:
    start: int
    end: int
    bytes: int
    stream: int = 7
    device: int = 0
    pid: int = PID


@dataclass(frozen=True)
class Sync:
    start: int
    end: int
    kind: int = 3
    stream: int = 7
    device: int = 0
    pid: int = PID


@dataclass(frozen=True)
class Call:
    """One CUDA call of the host. `event_class` 0 runtime, 1 driver, 67 a duplicate."""

    start: int
    end: int
    correlation: int
    name: str = "cudaLaunchKernel_v7000"
    event_class: int = 0
    pid: int = PID
    thread: int = PID


@dataclass(frozen=True)
class Range:
    """One NVTX event. `registered`: the text is in StringIds, as the nvtx package does it."""

    start: int
    end: int | None
    name: str
    registered: bool = False
    event_type: int = PUSH_POP
    pid: int = PID
    thread: int = PID


@dataclass(frozen=True)
class Gpu:
    id: int = 0
    name: str = "NVIDIA A100-SXM4-40GB"
    pci: str = "0000:03:00.0"

    @property
    def uuid(self) -> str:
        """As nsys exports it, without NVML's "GPU-"."""
        return f"{self.id}a000000-0000-4000-8000-{self.id:012d}"


@dataclass(frozen=True)
class CudaDevice:
    """A process's CUDA device number, and the GPU that it is."""

    gpu: int
    cuda: int = 0
    pid: int = PID


@dataclass
class Timeline:
    """What one file shall hold."""

    kernels: Iterable[Kernel] = ()
    copies: Iterable[Copy] = ()
    memsets: Iterable[Memset] = ()
    syncs: Iterable[Sync] = ()
    calls: Iterable[Call] = ()
    ranges: Iterable[Range] = ()
    gpus: Sequence[Gpu] = field(default_factory=lambda: (Gpu(),))
    cuda_devices: Sequence[CudaDevice] = ()


class _Strings:
    """StringIds: a number for every text."""

    def __init__(self) -> None:
        self.ids: dict[str | bytes, int] = {}

    def __call__(self, text: str | bytes) -> int:
        return self.ids.setdefault(text, len(self.ids) + 1)


def _columns(version: str) -> dict[str, str]:
    """CREATE TABLE bodies of one version."""
    green = "" if version == "2022.4" else "greenContextId INTEGER, "
    span = "start INTEGER NOT NULL, end INTEGER NOT NULL, "
    place = (
        f"deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, {green}streamId INTEGER NOT NULL, "
    )
    work = span + place + "correlationId INTEGER, globalPid INTEGER, "
    kernel = (
        "demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, mangledName INTEGER, "
        "launchType INTEGER, cacheConfig INTEGER, registersPerThread INTEGER NOT NULL, "
        "gridX INTEGER NOT NULL, gridY INTEGER NOT NULL, gridZ INTEGER NOT NULL, "
        "blockX INTEGER NOT NULL, blockY INTEGER NOT NULL, blockZ INTEGER NOT NULL, "
        "staticSharedMemory INTEGER NOT NULL, dynamicSharedMemory INTEGER NOT NULL, "
        "localMemoryPerThread INTEGER NOT NULL, localMemoryTotal INTEGER NOT NULL, "
        "gridId INTEGER NOT NULL, sharedMemoryExecuted INTEGER, graphNodeId INTEGER, "
        "sharedMemoryLimitConfig INTEGER"
    )
    return {
        "CUPTI_ACTIVITY_KIND_KERNEL": work + kernel,
        "CUPTI_ACTIVITY_KIND_MEMCPY": work
        + "bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL, srcKind INTEGER, dstKind INTEGER",
        "CUPTI_ACTIVITY_KIND_MEMSET": work + "value INTEGER NOT NULL, bytes INTEGER NOT NULL",
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": work
        + "syncType INTEGER NOT NULL, eventId INTEGER NOT NULL",
        "CUPTI_ACTIVITY_KIND_RUNTIME": span
        + "eventClass INTEGER NOT NULL, globalTid INTEGER, correlationId INTEGER, "
        "nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER",
        "NVTX_EVENTS": "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, "
        "rangeId INTEGER, text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, "
        "domainId INTEGER",
        "TARGET_INFO_GPU": "vmId INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT, "
        "busLocation TEXT, totalMemory INTEGER, smCount INTEGER, uuid TEXT",
        "TARGET_INFO_CUDA_DEVICE": "gpuId INTEGER NOT NULL, cudaId INTEGER NOT NULL, "
        "pid INTEGER NOT NULL, uuid TEXT NOT NULL, numMultiprocessors INTEGER NOT NULL",
        "StringIds": "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL",
        "ENUM_CUDA_MEMCPY_OPER": "id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT",
        "TARGET_INFO_SESSION_START_TIME": "utcEpochNs INTEGER, utcTime TEXT, localTime TEXT",
        _metadata(version): "name TEXT NOT NULL, value TEXT",
    }


def _metadata(version: str) -> str:
    return "EXPORT_META_DATA" if version == "2022.4" else "META_DATA_EXPORT"


def _work_rows(
    timeline: Timeline, text: _Strings, green: tuple[None, ...]
) -> dict[str, Iterator[Row]]:
    """Rows of what ran on the GPU. Work without a correlation id gets a fresh one."""
    fresh = count(1 << 24)

    def place(
        item: Kernel | Copy | Memset | Sync, correlation: int | None
    ) -> tuple[int | None, ...]:
        number = next(fresh) if correlation is None else correlation
        head = (item.start, item.end, item.device, 1, *green, item.stream)
        return (*head, number, global_pid(item.pid))

    return {
        "CUPTI_ACTIVITY_KIND_KERNEL": (
            (*place(k, k.correlation), text(k.name), text(k.name), None, *_LAUNCH)
            for k in timeline.kernels
        ),
        "CUPTI_ACTIVITY_KIND_MEMCPY": (
            (*place(c, c.correlation), c.bytes, c.kind, 1, 2) for c in timeline.copies
        ),
        "CUPTI_ACTIVITY_KIND_MEMSET": ((*place(m, None), 0, m.bytes) for m in timeline.memsets),
        "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": (
            (*place(s, None), s.kind, 0) for s in timeline.syncs
        ),
    }


def _host_rows(timeline: Timeline, text: _Strings) -> dict[str, Iterator[Row]]:
    """Rows of what the host did, and of the GPUs."""
    return {
        "CUPTI_ACTIVITY_KIND_RUNTIME": (
            (c.start, c.end, c.event_class, _thread(c), c.correlation, text(c.name), 0, None)
            for c in timeline.calls
        ),
        "NVTX_EVENTS": (
            (r.start, r.end, r.event_type, None, *_name(r, text), 0) for r in timeline.ranges
        ),
        "TARGET_INFO_GPU": (
            (1 << 48, g.id, g.name, g.pci, 40 * 10**9, 108, g.uuid) for g in timeline.gpus
        ),
        "TARGET_INFO_CUDA_DEVICE": ((d.gpu, d.cuda, d.pid, "", 108) for d in timeline.cuda_devices),
    }


def _thread(item: Call | Range) -> int:
    return global_pid(item.pid) | item.thread


def _name(item: Range, text: _Strings) -> tuple[str | int | None, ...]:
    """text, globalTid, endGlobalTid, textId."""
    if item.registered:
        return None, _thread(item), None, text(item.name)
    return item.name, _thread(item), None, None


def write_report(path: Path, timeline: Timeline, version: str = "2023.4") -> Path:
    """Write the export of a report as nsys `version` would; return `path`."""
    text = _Strings()
    green = () if version == "2022.4" else (None,)
    product, schema = PRODUCTS[version]
    meta = {
        "EXPORT_PRODUCT_NAME": "NVIDIA Nsight Systems",
        "EXPORT_PRODUCT_VERSION": product,
        "EXPORT_SCHEMA_VERSION": schema,
        **dict(zip(_SCHEMA_PARTS, schema.split("."), strict=True)),
        "EXPORT_LAZY": "true",
    }
    rows: dict[str, Iterator[Row]] = {
        **_work_rows(timeline, text, green),
        **_host_rows(timeline, text),
        "ENUM_CUDA_MEMCPY_OPER": ((i, f"KIND_{i}", name) for i, name in enumerate(COPY_LABELS)),
        "TARGET_INFO_SESSION_START_TIME": iter(
            [(1_700_000_000 * 10**9, "2023-11-14T22:13:20", "")]
        ),
        _metadata(version): iter(meta.items()),
    }
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA synchronous=OFF")
        for table, body in _columns(version).items():
            if table != "StringIds":
                _fill(base, table, body, rows[table])
        # Texts come last: the rows above have asked for them. CAST keeps bytes that are not UTF-8.
        base.execute(f"CREATE TABLE StringIds ({_columns(version)['StringIds']})")
        base.executemany(
            "INSERT INTO StringIds VALUES (?, CAST(? AS TEXT))",
            ((n, t.encode() if isinstance(t, str) else t) for t, n in text.ids.items()),
        )
    return path


_LAUNCH = (1, 0, 32, 128, 1, 1, 256, 1, 1, 0, 49152, 0, 60162048, 1, 65536, None, 0)
_SCHEMA_PARTS = tuple(f"EXPORT_SCHEMA_VERSION_{part}" for part in ("MAJOR", "MINOR", "MICRO"))


def _fill(base: sqlite3.Connection, table: str, body: str, rows: Iterator[Row]) -> None:
    first = next(rows, None)
    if first is None:
        return
    base.execute(f"CREATE TABLE {table} ({body})")
    marks = ",".join("?" * len(first))
    base.execute(f"INSERT INTO {table} VALUES ({marks})", first)
    base.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def pipeline(batches: int = 4, *, begin: int = 10 * MS) -> Timeline:
    """A double-buffered pipeline whose figures are known by construction.

    With n batches, batch b enters at 2b ms and takes H2D 1 ms (8 MB), compute 2 ms in two kernels
    back to back, D2H 1.5 ms (3 MB), one after the other, on streams 13, 14, 15. Busy in ms: H2D n,
    compute 2n without a pause, D2H 1.5n, everything 2n + 2.5. H2D meets compute in n - 1, D2H
    meets compute in 1.5 (n - 1), H2D meets D2H (of the batch two before) in 0.5 (n - 2), all three
    likewise. Copies together take 2n + 1; exposed are the first H2D and the last D2H, 2.5.
    Launches come 0.5 ms before their kernels. The profiled window ends 0.5 ms after the last copy.
    """
    made = Timeline(kernels=[], copies=[], calls=[], ranges=[])
    kernels, copies, calls, ranges = [], [], [], []
    ranges.append(Range(begin, begin + 2 * MS * batches + 3 * MS, "profiled window", True))
    for batch in range(batches):
        at, number = begin + 2 * MS * batch, 100 + 10 * batch
        copies.append(Copy(at, at + MS, H2D, 8 * 10**6, number, 13))
        for half, name in enumerate(("gemm", "softmax")):
            start = at + MS * (1 + half)
            kernels.append(Kernel(start, start + MS, name, number + 1 + half, 14))
            calls.append(Call(start - MS // 2, start - MS // 2 + 5000, number + 1 + half))
        copies.append(Copy(at + 3 * MS, at + 9 * MS // 2, D2H, 3 * 10**6, number + 3, 15))
        calls.append(Call(at, at + 3000, number, "cudaMemcpyAsync_v3020"))
        calls.append(Call(at + MS, at + MS + 3000, number + 3, "cudaMemcpyAsync_v3020"))
        ranges.append(Range(at, at + MS // 4, "H2D", True))
        ranges.append(Range(at + MS // 4, at + MS, "compute", True))
        ranges.append(Range(at + MS, at + 3 * MS // 2, "D2H", True))
    made.kernels, made.copies, made.calls, made.ranges = kernels, copies, calls, ranges
    return made


def many_kernels(kernels: int) -> Timeline:
    """A long report: `kernels` kernels of 40 names on three streams, their launches, and copies."""
    return Timeline(
        kernels=(
            Kernel(2000 * i + i % 7, 2000 * i + 1500 + i % 400, f"kernel_{i % 40}", i, 13 + i % 3)
            for i in range(1, kernels + 1)
        ),
        copies=(
            Copy(40000 * i, 40000 * i + 9000, (H2D, D2H)[i % 2], 10**5, kernels + i, 16)
            for i in range(1, kernels // 20)
        ),
        calls=(
            Call(2000 * i - 1990, 2000 * i - 1200, i, thread=PID + i % 2)
            for i in range(1, kernels + 1)
        ),
        ranges=(
            Range(200_000 * i, 200_000 * i + 150_000, ("H2D", "compute")[i % 2], True)
            for i in range(kernels // 100)
        ),
    )
