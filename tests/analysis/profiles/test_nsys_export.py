"""Exports of several nsys versions, real and made by hand, and the figures they hold."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from numa_bench.analysis.profiles.measure import measure_activity
from numa_bench.analysis.profiles.metrics import DeviceMetrics, ProfileMetrics
from numa_bench.analysis.profiles.nsys_export import read_sqlite
from numa_bench.analysis.profiles.windows import choose_window
from numa_bench.errors import ReportError
from tests.conftest import NSYS
from tests.nsys_files import (
    D2D,
    D2H,
    DOMAIN,
    H2D,
    MARK,
    MS,
    VERSIONS,
    Call,
    Copy,
    Gpu,
    Kernel,
    Memset,
    Range,
    Sync,
    Timeline,
    pipeline,
    write_report,
)

N = 6


def figures(path: Path, window: str | None = None) -> ProfileMetrics:
    activity = read_sqlite(path)
    return measure_activity(activity, choose_window(activity, window))


def only_device(path: Path, window: str | None = None) -> DeviceMetrics:
    (device,) = figures(path, window).devices
    return device


@pytest.fixture(params=VERSIONS)
def pipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_report(tmp_path / "pipe.sqlite", pipeline(N), request.param)


def test_the_known_overlap_of_a_pipeline(pipe: Path) -> None:
    device = only_device(pipe)

    overlap = device.overlap
    assert overlap.h2d_compute_ms == N - 1
    assert overlap.d2h_compute_ms == 1.5 * (N - 1)
    assert overlap.h2d_d2h_ms == 0.5 * (N - 2)
    assert overlap.all_three_ms == 0.5 * (N - 2)
    assert overlap.copies_busy_ms == 2 * N + 1
    assert overlap.exposed_copy_ms == 2.5
    assert overlap.hidden_fraction == pytest.approx((2 * N - 1.5) / (2 * N + 1))


def test_busy_time_and_bandwidth_of_a_pipeline(pipe: Path) -> None:
    metrics = figures(pipe)
    (device,) = metrics.devices

    assert (metrics.window, metrics.window_s) == ("profiled window", (2 * N + 3) / 1e3)
    busy = {kind: one.busy_ms for kind, one in device.busy.items()}
    assert busy == {"kernels": 2 * N, "H2D": N, "D2H": 1.5 * N, "any": 2 * N + 2.5}
    assert device.busy["kernels"].fraction_of_window == pytest.approx(2 * N / (2 * N + 3))
    h2d, d2h = device.copies["H2D"], device.copies["D2H"]
    assert (h2d.count, h2d.bytes, h2d.sum_ns) == (N, N * 8_000_000, N * MS)
    assert (h2d.gb_per_s_of_busy_time, d2h.gb_per_s_of_busy_time) == (8.0, 2.0)
    assert h2d.gb_per_s_of_window == pytest.approx(N * 0.008 / metrics.window_s)
    assert device.idle_gaps.count == 0
    assert device.idle_gaps.p50_us is None


def test_kernels_launches_streams_and_ranges_of_a_pipeline(pipe: Path) -> None:
    metrics = figures(pipe)
    (device,) = metrics.devices

    assert [(k.name, k.count, k.sum_ns, k.share) for k in device.kernels] == [
        ("gemm", N, N * MS, 0.5),
        ("softmax", N, N * MS, 0.5),
    ]
    late = device.launch_latency
    assert late is not None
    assert (late.count, late.p50_us, late.p95_us, late.max_us) == (2 * N, 500, 500, 500)
    assert [(s.stream, s.kernels, s.copies) for s in device.streams] == [
        (13, 0, N),
        (14, 2 * N, 0),
        (15, 0, N),
    ]
    ranges = {r.name: r for r in metrics.ranges}
    assert (ranges["H2D"].count, ranges["H2D"].p50_ms, ranges["H2D"].copy_sum_ms) == (N, 0.25, N)
    # Both kernels of a batch are asked for 0.5 and 1.5 ms after it enters.
    assert ranges["compute"].kernel_sum_ms == N
    assert ranges["profiled window"].kernel_sum_ms == 2 * N


def test_the_gpu_and_the_profiler_are_told(pipe: Path) -> None:
    activity = read_sqlite(pipe)

    (gpu,) = activity.gpus
    assert (gpu.device, gpu.name, gpu.pci_address) == (0, "NVIDIA A100-SXM4-40GB", "0000:03:00.0")
    assert activity.source.tool == "nsys"
    assert (activity.source.version or "")[:6] in VERSIONS


def test_a_window_cuts_what_crosses_its_edge(tmp_path: Path) -> None:
    timeline = Timeline(
        copies=[Copy(0, 4 * MS, H2D, 4000), Copy(6 * MS, 7 * MS, H2D, 500)],
        kernels=[Kernel(0, 10 * MS)],
        ranges=[Range(3 * MS, 5 * MS, "w"), Range(9 * MS, 11 * MS, "w")],
    )
    path = write_report(tmp_path / "r.sqlite", timeline)

    metrics = figures(path, "w")

    (device,) = metrics.devices
    assert (metrics.window_count, metrics.window_s) == (2, 0.004)
    assert (device.copies["H2D"].count, device.copies["H2D"].bytes) == (1, 1000)
    assert device.copies["H2D"].sum_ns == MS
    assert device.kernel_sum_ns == 3 * MS
    assert device.idle_gaps.count == 0
    everything = only_device(path, "all")
    assert (everything.copies["H2D"].bytes, everything.kernel_sum_ns) == (4500, 10 * MS)


def test_an_unknown_window_names_those_there_are(pipe: Path) -> None:
    with pytest.raises(ReportError, match=r"no range 'nope'; it has D2H, H2D, compute, profiled"):
        figures(pipe, "nope")


def test_idle_gaps_by_their_length(tmp_path: Path) -> None:
    kernels = [
        Kernel(0, 100),
        Kernel(600, 700),
        Kernel(10_700, 11_000),
        Kernel(2_011_000, 3_000_000),
    ]
    device = only_device(write_report(tmp_path / "r.sqlite", Timeline(kernels=kernels)))

    gaps = device.idle_gaps
    assert gaps.count == 3
    assert gaps.total_ms == pytest.approx((500 + 10_000 + 2_000_000) / 1e6)
    assert (gaps.p50_us, gaps.max_us) == (10, 2000)
    assert {g.gap: g.count for g in gaps.distribution if g.count} == {
        "<1 us": 1,
        "10-100 us": 1,
        "1-10 ms": 1,
    }


def test_launches_are_told_apart_by_process_and_event_class(tmp_path: Path) -> None:
    timeline = Timeline(
        kernels=[Kernel(1000, 2000, "a", 5, pid=10), Kernel(3000, 4000, "b", 5, pid=11)],
        calls=[
            Call(900, 950, 5, pid=10),
            Call(2500, 2600, 5, pid=11),
            Call(10, 20, 5, pid=10, event_class=67),
        ],
    )
    device = only_device(write_report(tmp_path / "r.sqlite", timeline))

    late = device.launch_latency
    assert late is not None
    assert (late.count, late.p50_us, late.max_us) == (2, 0.3, 0.5)
    assert [(s.process, s.stream) for s in device.streams] == [(10, 7), (11, 7)]


def test_of_a_graphs_kernels_the_first_tells_the_latency(tmp_path: Path) -> None:
    kernels = [Kernel(5000, 6000, "b", 1), Kernel(2000, 3000, "a", 1), Kernel(9000, 9500, "c", 2)]
    timeline = Timeline(kernels=kernels, calls=[Call(1000, 1100, 1, "cudaGraphLaunch_v10000")])

    late = only_device(write_report(tmp_path / "r.sqlite", timeline)).launch_latency

    assert late is not None
    assert (late.count, late.max_us) == (1, 1.0)


def test_range_names_from_the_row_and_from_the_string_table(tmp_path: Path) -> None:
    timeline = Timeline(
        ranges=[
            Range(0, MS, "torch's"),
            Range(MS, 2 * MS, "nvtx's", registered=True),
            Range(2 * MS, 3 * MS, "start/end", event_type=60),
            Range(2 * MS, 2 * MS, "a mark", event_type=MARK),
            Range(0, None, "a domain", event_type=DOMAIN),
            Range(0, None, "never closed"),
        ]
    )
    activity = read_sqlite(write_report(tmp_path / "r.sqlite", timeline))

    assert set(activity.ranges.names) == {"torch's", "nvtx's", "start/end"}
    assert not activity.has_gpu_work


def test_a_report_without_gpu_is_valid(tmp_path: Path) -> None:
    host = Timeline(ranges=pipeline(N).ranges, gpus=())
    path = write_report(tmp_path / "r.sqlite", host)
    with closing(sqlite3.connect(path)) as base:
        assert not base.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'CUPTI%'").fetchall()

    metrics = figures(path)

    assert metrics.devices == ()
    ranges = {r.name: r for r in metrics.ranges}
    assert (ranges["compute"].count, ranges["compute"].p50_ms) == (N, 0.75)
    assert ranges["compute"].kernel_sum_ms is None


def test_an_empty_report_is_valid(tmp_path: Path) -> None:
    metrics = figures(write_report(tmp_path / "r.sqlite", Timeline(gpus=())))

    assert (metrics.window_s, metrics.devices, metrics.ranges) == (0, (), ())


def test_every_gpu_by_itself(tmp_path: Path) -> None:
    timeline = Timeline(
        kernels=[Kernel(0, MS, device=0), Kernel(0, 3 * MS, device=3)],
        copies=[Copy(0, MS, D2D, 100, device=3)],
        gpus=(Gpu(0, "first"), Gpu(3, "fourth")),
    )
    metrics = figures(write_report(tmp_path / "r.sqlite", timeline))

    assert [(d.device, d.name, d.kernel_sum_ns) for d in metrics.devices] == [
        (0, "first", MS),
        (3, "fourth", 3 * MS),
    ]
    assert metrics.devices[0].copies == {}
    # A copy on the device is work, but no transfer that compute could hide.
    assert metrics.devices[1].copies["D2D"].bytes == 100
    assert metrics.devices[1].overlap.hidden_fraction is None


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    timeline = Timeline(kernels=[Kernel(0, 1, b"k\xe4rnel"), Kernel(2, 3, "größe")])
    activity = read_sqlite(write_report(tmp_path / "r.sqlite", timeline))

    assert set(activity.kernels.names) == {"k�rnel", "größe"}


def test_columns_that_a_version_does_not_have(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.sqlite", pipeline(N))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN globalPid")
        base.execute("ALTER TABLE NVTX_EVENTS DROP COLUMN textId")
        base.execute("UPDATE CUPTI_ACTIVITY_KIND_MEMCPY SET correlationId = NULL")
        base.execute("DELETE FROM CUPTI_ACTIVITY_KIND_MEMCPY WHERE rowid = 1")

    activity = read_sqlite(path)

    assert set(activity.kernels.process.tolist()) == {0}
    assert set(activity.copies.correlation.tolist()) == {-1}
    assert len(activity.copies) == 2 * N - 1
    assert activity.ranges.names == ("[no name]",)


def test_a_column_that_nothing_works_without_is_named(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.sqlite", pipeline(N))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_MEMCPY DROP COLUMN copyKind")

    with pytest.raises(ReportError, match=r"r\.sqlite: table \w+MEMCPY has no column copyKind"):
        read_sqlite(path)


def test_text_where_a_number_belongs(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.sqlite", pipeline(N))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET start = 'x' WHERE rowid = 3")

    with pytest.raises(ReportError, match=r"r\.sqlite: .*values that are not integers"):
        read_sqlite(path)


def test_rows_of_all_pieces_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numa_bench.analysis.profiles.sqlite_columns.CHUNK", 7)
    kernels = [Kernel(10 * i, 10 * i + 5, f"k{i % 3}", i) for i in range(1, 101)]
    path = write_report(tmp_path / "r.sqlite", Timeline(kernels=kernels))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE rowid BETWEEN 20 AND 40")

    found = read_sqlite(path).kernels

    expected = [k for i, k in enumerate(kernels, 1) if not 20 <= i <= 40]
    assert found.start_ns.tolist() == [k.start for k in expected]
    assert found.correlation.tolist() == [k.correlation for k in expected]
    assert [found.names[i] for i in found.name] == [k.name for k in expected]


def test_a_column_that_differs_only_far_down(tmp_path: Path) -> None:
    """Columns with one value are fetched by a shorter way, which a late other value must end."""
    kernels = [Kernel(i, i + 1, "k", i, device=int(i == 150), pid=9) for i in range(200)]

    found = read_sqlite(write_report(tmp_path / "r.sqlite", Timeline(kernels=kernels))).kernels

    assert found.device.tolist() == [k.device for k in kernels]
    assert set(found.process.tolist()) == {9}
    assert found.correlation.tolist() == list(range(200))


@pytest.mark.parametrize("name", ["a b.sqlite", "q?x=1.sqlite", "h#1.sqlite", "p%41.sqlite"])
def test_awkward_paths_and_nothing_left_beside(name: str, tmp_path: Path) -> None:
    path = write_report(tmp_path / name, pipeline(2))
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = WAL").fetchall()
    before = path.read_bytes()

    assert len(read_sqlite(path).kernels) == 4

    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == before


def test_files_that_are_no_report(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("SELECT 1\n")
    (tmp_path / "empty.sqlite").touch()
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as base, base:
        base.execute("CREATE TABLE places (name TEXT)")
    said = {
        "text.sqlite": "not an SQLite file",
        "empty.sqlite": "not an SQLite file",
        "other.sqlite": "an SQLite file, but not exported by nsys",
        "none.sqlite": "No such file",
        ".": "Is a directory",
    }
    for name, message in said.items():
        with pytest.raises(ReportError) as caught:
            read_sqlite(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = write_report(tmp_path / "r.sqlite", pipeline(200)).read_bytes()
    for share in (0.01, 0.3, 0.6, 0.99):
        cut = tmp_path / "cut.sqlite"
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ReportError, match=r"cut\.sqlite: .*(cut short|damaged)"):
            read_sqlite(cut)


def test_overwritten_pages_never_give_a_traceback(tmp_path: Path) -> None:
    whole = bytearray(write_report(tmp_path / "r.sqlite", pipeline(100)).read_bytes())
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(20):
        broken = whole.copy()
        at = int(rng.integers(4096, len(whole) - 4096))
        broken[at : at + 3000] = rng.bytes(3000)
        path = tmp_path / "broken.sqlite"
        path.write_bytes(broken)
        try:
            figures(path, "all")
        except ReportError as error:
            messages.append(str(error))
    assert messages
    assert not [text for text in messages if "\n" in text]


def nsys_stats(executable: str, path: Path, report: str) -> list[dict[str, str]]:
    """One table of the real `nsys stats`."""
    argv = [executable, "stats", "--quiet", "--format", "csv:mem=B", "--report", report, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("Process")]
    return list(csv.DictReader(lines))


@pytest.mark.parametrize("version", VERSIONS)
def test_sums_agree_with_nsys_stats(version: str, tmp_path: Path) -> None:
    """To the nanosecond and the byte."""
    if NSYS is None:
        pytest.skip("nsys is not installed")
    rng = np.random.default_rng(1)
    starts = [int(s) for s in np.cumsum(rng.integers(1, 5000, 300))]
    timeline = Timeline(
        kernels=[Kernel(s, s + int(rng.integers(1, 9999)), f"k{s % 7}") for s in starts],
        copies=[
            Copy(
                s,
                s + int(rng.integers(1, 9999)),
                (H2D, D2H, D2D)[s % 3],
                int(rng.integers(1, 10**7)),
            )
            for s in starts
        ],
        memsets=[Memset(s, s + 5, 100 + s) for s in starts],
        syncs=[Sync(0, 10)],
    )
    path = write_report(tmp_path / "r.sqlite", timeline, version)

    device = only_device(path, "all")

    kernels = {k.name: (k.count, k.sum_ns) for k in device.kernels}
    said = nsys_stats(NSYS, path, "gpukernsum")
    assert {r["Name"]: (int(r["Instances"]), int(r["Total Time (ns)"])) for r in said} == kernels
    labels = {
        "[CUDA memcpy Host-to-Device]": "H2D",
        "[CUDA memcpy Device-to-Host]": "D2H",
        "[CUDA memcpy Device-to-Device]": "D2D",
    }
    mine = {kind: (c.count, c.sum_ns) for kind, c in device.copies.items()}
    mine["memset"] = (device.memset_count, device.memset_sum_ns)
    times = nsys_stats(NSYS, path, "gpumemtimesum")
    assert {
        labels.get(r["Operation"], "memset"): (int(r["Count"]), int(r["Total Time (ns)"]))
        for r in times
    } == mine
    in_bytes = {kind: c.bytes for kind, c in device.copies.items()}
    in_bytes["memset"] = device.memset_bytes
    sizes = nsys_stats(NSYS, path, "gpumemsizesum")
    found = {labels.get(r["Operation"], "memset"): float(r["Total (B)"]) for r in sizes}
    assert found == in_bytes
