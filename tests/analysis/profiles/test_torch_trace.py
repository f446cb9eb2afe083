"""Traces of torch's profiler: a real one from the CPU, and GPU ones in Kineto's format by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from numa_bench.analysis.profiles.activity import Activity
from numa_bench.analysis.profiles.measure import measure_activity
from numa_bench.analysis.profiles.torch_trace import read_trace
from numa_bench.analysis.profiles.windows import choose_window
from numa_bench.errors import ReportError

Event = dict[str, Any]
HOST, THREAD = 4242, 4243


def event(category: str, name: str, ts: float, dur: float, **args: object) -> Event:
    """One complete event; work of the GPU has the device's number as its pid."""
    on_gpu = category in ("kernel", "gpu_memcpy", "gpu_memset")
    place = {"pid": 0, "tid": args.get("stream", 7)} if on_gpu else {"pid": HOST, "tid": THREAD}
    return {"ph": "X", "cat": category, "name": name, "ts": ts, "dur": dur, **place, "args": args}


def gpu(category: str, name: str, ts: float, dur: float, **args: object) -> Event:
    return event(category, name, ts, dur, **{"device": 0, "stream": 7, "context": 1, **args})


def one_batch() -> list[Event]:
    """H2D 100 us beside nothing, compute 200 us of which 50 beside D2H, D2H 80 us."""
    return [
        {"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": 0.0, "args": {"name": "p"}},
        event("user_annotation", "H2D", 10.0, 20.0),
        event("cuda_runtime", "cudaMemcpyAsync", 12.0, 3.0, correlation=1),
        event("user_annotation", "compute", 40.0, 30.0),
        event("cpu_op", "aten::mm", 41.0, 9.0),
        event("cuda_driver", "cuLaunchKernel", 50.0, 3.0, correlation=2),
        gpu(
            "gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 20.0, 100.0, correlation=1, bytes=10**6
        ),
        gpu("kernel", "gemm", 150.125, 200.25, correlation=2, stream=8),
        gpu(
            "gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 300.375, 80.0, correlation=9, bytes=800
        ),
        gpu("gpu_memset", "Memset (Device)", 5.0, 1.5, correlation=3, bytes=64),
        event("cuda_sync", "Stream Synchronize", 60.0, 320.0, stream=7),
        {"ph": "f", "cat": "ac2g", "name": "ac2g", "id": 1, "pid": 0, "tid": 7, "ts": 20.0},
    ]


def trace(events: list[Event], **more: object) -> dict[str, object]:
    return {
        "schemaVersion": 1,
        "deviceProperties": [
            {"id": 0, "name": "NVIDIA H100", "totalGlobalMem": 85 * 10**9, "numSms": 132}
        ],
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": 1_700_000_000 * 10**9,
        "traceEvents": events,
        **more,
    }


def write(path: Path, data: object) -> Path:
    text = json.dumps(data).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture(params=["t.json", "t.json.gz"])
def batch(request: pytest.FixtureRequest, tmp_path: Path) -> Activity:
    return read_trace(write(tmp_path / request.param, trace(one_batch())))


def test_times_are_exact_nanoseconds(batch: Activity) -> None:
    assert batch.kernels.start_ns.tolist() == [150_125]
    assert batch.kernels.end_ns.tolist() == [350_375]
    assert (batch.source.tool, batch.gpus[0].name, batch.gpus[0].sm_count) == (
        "torch",
        "NVIDIA H100",
        132,
    )


def test_the_same_figures_as_from_nsys(batch: Activity) -> None:
    metrics = measure_activity(batch, choose_window(batch))

    (device,) = metrics.devices
    assert (device.copies["H2D"].bytes, device.copies["H2D"].gb_per_s_of_busy_time) == (10**6, 10.0)
    assert device.copies["D2H"].sum_ns == 80_000
    assert (device.memset_count, device.memset_bytes, device.memset_sum_ns) == (1, 64, 1500)
    assert device.overlap.d2h_compute_ms == 0.05
    assert device.overlap.exposed_copy_ms == pytest.approx(0.13)
    late = device.launch_latency
    assert late is not None
    assert late.p50_us == 100.125
    assert [(s.stream, s.kernels, s.copies) for s in device.streams] == [(7, 0, 2), (8, 1, 0)]
    ranges = {r.name: r for r in metrics.ranges}
    assert set(ranges) == {"H2D", "compute"}
    assert (ranges["compute"].kernel_sum_ms, ranges["H2D"].copy_sum_ms) == (0.20025, 0.1)
    assert [(s.name, s.sum_ms) for s in metrics.syncs] == [("Stream Synchronize", 0.32)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "H2D"),
        ("Memcpy DtoD (Device -> Device)", "D2D"),
        ("Memcpy PtoP (Device -> Device)", "P2P"),
        ("Memcpy HtoH", "H2H"),
        ("something new", "unknown"),
    ],
)
def test_the_kind_of_a_copy_is_in_its_name(name: str, kind: str, tmp_path: Path) -> None:
    events = [gpu("gpu_memcpy", name, 1.0, 2.0, bytes=5)]
    found = read_trace(write(tmp_path / "t.json", trace(events)))

    (device,) = measure_activity(found, choose_window(found)).devices
    assert list(device.copies) == [kind]


@pytest.mark.slow
def test_a_trace_that_torch_wrote(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(3):
            with torch.profiler.record_function("compute"):
                torch.ones(8, 8) @ torch.ones(8, 8)
    profile.export_chrome_trace(str(tmp_path / "t.json"))

    found = read_trace(tmp_path / "t.json")

    assert not found.has_gpu_work
    metrics = measure_activity(found, choose_window(found, "compute"))
    (compute,) = [r for r in metrics.ranges if r.name == "compute"]
    assert compute.count == 3
    assert compute.total_ms == pytest.approx(metrics.window_s * 1e3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"traceEvents": [{"ph": "X", "cat"', "not JSON"),
        (b"[1, 2]", "no list traceEvents"),
        (b'{"records": []}', "no list traceEvents"),
        (gzip.compress(b'{"traceEvents": []}')[:20], "cut short"),
        (b'{"traceEvents": [{"ph": "X", "dur": 1, "cat": "kernel"}]}', "not a trace"),
        (b'{"traceEvents": ["x"]}', "not a trace"),
    ],
    ids=[
        *("empty", "cut off", "a list", "no events", "cut gzip", "event without a start"),
        "event is a text",
    ],
)
def test_what_is_no_trace(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)

    with pytest.raises(ReportError, match=message) as caught:
        read_trace(path)

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_names_that_json_or_utf8_would_refuse(tmp_path: Path) -> None:
    text = json.dumps(trace([gpu("kernel", "A", 1.0, 2.0)])).encode()
    path = tmp_path / "t.json"
    path.write_bytes(text.replace(b'"A"', b'"a\xe4\tb"'))

    assert read_trace(path).kernels.names == ("a�\tb",)
