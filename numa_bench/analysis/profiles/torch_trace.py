"""A trace of torch's profiler (Kineto's Chrome trace, JSON or JSON.gz) as an Activity.

Format: libkineto/src/output_json.cpp of pytorch/kineto. Complete events (`"ph": "X"`) have `ts` and
`dur` in microseconds with three decimals, so nanoseconds are exact; `cat` is the kind of event.
Operators (`cpu_op`) and their Python frames are not read: they are not work of the GPU.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from numa_bench.analysis.profiles.activity import (
    COPY_KINDS,
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
    number_names,
)
from numa_bench.errors import ReportError
from numa_bench.jsonio import read_regular_file
from numa_bench.redaction import clean_text

Event = dict[str, Any]  # one entry of traceEvents, as JSON gives it
#: Times beyond this, 31 years, are damaged; sums of some millions still fit into 64 bits.
MOST_US = 1e15
_GZIP = b"\x1f\x8b"
_KINDS = {name: number for number, name in COPY_KINDS.items()}


def read_trace(path: Path) -> Activity:
    """The activity of a torch profiler trace. Raises ReportError, in one line with the file."""
    trace = _load(path)
    events: dict[str, list[Event]] = defaultdict(list)
    try:
        for event in trace["traceEvents"]:
            if event.get("ph") == "X" and "dur" in event:
                events[event.get("cat", "")].append(event)
        calls = events["cuda_runtime"] + events["cuda_driver"]
        # Of the host only: "gpu_user_annotation" repeats them over the GPU's work.
        ranges = events["user_annotation"]
        # One numbering for both, so that the calls of a range's thread are found.
        threads, _ = number_names(
            f"{event.get('pid')}:{event.get('tid')}" for event in calls + ranges
        )
        name, names = number_names(event["name"] for event in events["kernel"])
        return Activity(
            source=_source(path, trace),
            kernels=Kernels(**_work(events["kernel"]), name=name, names=names),
            copies=_copies(events["gpu_memcpy"]),
            memsets=Memsets(
                **_work(events["gpu_memset"]), bytes=_argument(events["gpu_memset"], "bytes")
            ),
            syncs=Syncs(**_span(events["cuda_sync"]), **_named(events["cuda_sync"])),
            calls=Calls(
                _span(calls)["start_ns"],
                threads[: len(calls)],
                np.zeros(len(calls), np.int64),
                _argument(calls, "correlation", -1),
            ),
            ranges=Ranges(**_span(ranges), thread=threads[len(calls) :], **_named(ranges)),
            gpus=_gpus(trace),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ReportError(
            f"{path}: not a trace of torch's profiler, or of an unknown version "
            f"({type(error).__name__}: {error})"
        ) from error


def is_trace(path: Path) -> bool:
    """Whether the name ends in .json or .json.gz."""
    return path.name.lower().endswith((".json", ".json.gz"))


def _load(path: Path) -> Event:
    try:
        raw = read_regular_file(path)
        if raw.startswith(_GZIP):
            raw = gzip.decompress(raw)
        trace = json.loads(raw.decode(errors="replace"), strict=False)
    except (EOFError, zlib.error) as error:
        raise ReportError(f"{path}: damaged or cut short ({error})") from error
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from error
    except RecursionError as error:
        raise ReportError(f"{path}: JSON that is nested too deeply, no profiler trace") from error
    except ValueError as error:
        raise ReportError(f"{path}: not JSON, or cut short ({error})") from error
    if isinstance(trace, dict) and isinstance(trace.get("traceEvents"), list):
        return trace
    raise ReportError(f"{path}: JSON, but no profiler trace (it has no list traceEvents)")


def _nanoseconds(events: list[Event], key: str) -> Int:
    values = np.array([event[key] for event in events], np.float64)
    if not (np.abs(values) <= MOST_US).all():  # also for NaN
        raise ValueError(f"{key} of an event is not a time")
    # Decimals are not exact in binary: cutting them off could lose a nanosecond.
    return np.rint(values * 1000).astype(np.int64)


def _span(events: list[Event]) -> dict[str, Any]:
    start = _nanoseconds(events, "ts")
    return {"start_ns": start, "end_ns": start + _nanoseconds(events, "dur")}


def _argument(events: list[Event], name: str, missing: int = 0) -> Int:
    return np.array([int(event.get("args", {}).get(name, missing)) for event in events], np.int64)


def _work(events: list[Event]) -> dict[str, Int]:
    """A trace is of one process, whose number for everything here is 0."""
    return {
        **_span(events),
        "device": _argument(events, "device"),
        "stream": _argument(events, "stream"),
        "process": np.zeros(len(events), np.int64),
        "correlation": _argument(events, "correlation", -1),
    }


def _copies(events: list[Event]) -> Copies:
    """The kind is in the name: "Memcpy HtoD (Pinned -> Device)"."""
    kinds = []
    for event in events:
        match = re.match(r"Memcpy ([HDAP])to([HDAP])\b", event["name"])
        kinds.append(_KINDS.get(f"{match[1]}2{match[2]}", 0) if match else 0)
    return Copies(**_work(events), kind=np.array(kinds, np.int64), bytes=_argument(events, "bytes"))


def _named(events: list[Event]) -> dict[str, Any]:
    name, names = number_names(event["name"] for event in events)
    return {"name": name, "names": names}


def _gpus(trace: Event) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            int(one["id"]),
            clean_text(str(one["name"])) if one.get("name") is not None else None,
            memory_bytes=_count(one.get("totalGlobalMem")),
            sm_count=_count(one.get("numSms")),
        )
        for one in trace.get("deviceProperties", [])
    )


def _count(value: Any) -> int | None:
    return int(value) if value is not None else None


def _source(path: Path, trace: Event) -> Source:
    version = trace.get("torch_version")
    version = clean_text(str(version)) if version is not None else None
    return Source(path, "torch", version)
