"""Bandwidth, latency and streams, on kernels with planted rates and a virtual clock."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest
import torch

from numa_bench.machine.backend import Backend
from numa_bench.records.measuring import OPERATIONS
from numa_bench.worker.buffers import HostBuffer
from numa_bench.worker.memory_kernels import team as team_module
from numa_bench.worker.memory_kernels.bandwidth import (
    Arrays,
    BandwidthPoint,
    make_call,
    split_lines,
)
from numa_bench.worker.memory_kernels.kernels import Gate, LibraryKernels, Span
from numa_bench.worker.memory_kernels.latency import LatencyPoint, link_chain
from numa_bench.worker.memory_kernels.stream import StreamLoop, StreamWindow
from numa_bench.worker.memory_kernels.team import ThreadTeam, choose_cpus
from tests.simulation.planted_kernels import PlantedKernels

RATES = {"read": 20.0, "write": 8.0, "copy": 12.0}
ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.fixture
def kernels() -> PlantedKernels:
    return PlantedKernels(RATES, latency_ns=130.0)


def make_arrays(nbytes: int) -> tuple[Arrays, list[HostBuffer]]:
    """Arrays, and the buffers that own them."""
    buffers = [HostBuffer((nbytes // 8,), torch.int64) for _ in range(2)]
    return Arrays(buffers[0].address, buffers[1].address, nbytes), buffers


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("nbytes", [64, 64 * 101, 1 << 17])
def test_planted_bandwidth_comes_back(kernels: PlantedKernels, operation: str, nbytes: int) -> None:
    arrays, _buffers = make_arrays(nbytes)

    with ThreadTeam(ALLOWED) as team:
        point = BandwidthPoint(kernels, team, operation, arrays)
        point.calibrate(0.05)
        samples = [point.sample() for _ in range(3)]

    # Slices of two threads differ by one line at most.
    assert samples == pytest.approx([RATES[operation]] * 3, rel=0.02)


def test_a_copy_counts_what_is_read_and_what_is_written(kernels: PlantedKernels) -> None:
    arrays, _buffers = make_arrays(1 << 16)
    with ThreadTeam(ALLOWED[:1]) as team:
        point = BandwidthPoint(kernels, team, "copy", arrays)
        before = kernels._now
        bandwidth = point.sample()

    assert bandwidth * 1e9 * (kernels._now - before) == pytest.approx(2 << 16)


def test_a_sample_lasts_from_the_first_start_to_the_last_end(
    kernels: PlantedKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = {0: Span(10.0, 11.0), 512: Span(10.5, 12.0)}
    monkeypatch.setattr(kernels, "read", lambda address, *_, **__: spans[address])
    two_cpus = [ALLOWED[0], ALLOWED[-1]]  # the same one twice on a host with one
    with ThreadTeam(two_cpus) as team:
        point = BandwidthPoint(kernels, team, "read", Arrays(0, 0, 1024))

        assert point.sample() * 1e9 == pytest.approx(1024 / 2.0)


def test_a_sample_takes_about_as_long_as_it_should(kernels: PlantedKernels) -> None:
    arrays, _buffers = make_arrays(4096)
    with ThreadTeam(ALLOWED[:1]) as team:
        point = BandwidthPoint(kernels, team, "read", arrays)
        point.calibrate(0.05)
        before = kernels._now
        point.sample()

    assert kernels._now - before == pytest.approx(0.05, rel=0.02)
    assert point.passes == pytest.approx(0.05 * 20e9 / 4096, rel=0.02)


def test_a_pass_that_is_longer_than_a_sample_is_made_once(kernels: PlantedKernels) -> None:
    arrays, _buffers = make_arrays(1 << 20)
    with ThreadTeam(ALLOWED[:1]) as team:
        point = BandwidthPoint(kernels, team, "read", arrays)
        point.calibrate(1e-6)

    assert point.passes == 1


def measure_latency(
    kernels: PlantedKernels, words: torch.Tensor, seconds: float, samples: int
) -> list[float]:
    """Samples of a chain through all of `words`, each of about `seconds`."""
    with ThreadTeam(ALLOWED[:1]) as team:
        point = LatencyPoint(kernels, team, link_chain(words, seed=0))
        point.calibrate(seconds)
        return [point.sample() for _ in range(samples)]


def test_planted_latency_comes_back(kernels: PlantedKernels) -> None:
    words = HostBuffer((1 << 12,), torch.int64).tensor

    assert measure_latency(kernels, words, 0.05, samples=2) == pytest.approx([130.0] * 2)


def test_loads_go_on_where_the_last_sample_ended(
    kernels: PlantedKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = HostBuffer((1 << 12,), torch.int64).tensor
    spans = []
    chase = kernels.chase

    def record(address: int, nbytes: int, start: int, loads: int) -> object:
        spans.append((start, span := chase(address, nbytes, start, loads)))
        return span

    monkeypatch.setattr(kernels, "chase", record)
    # 100 loads of a sample along 512 lines.
    measure_latency(kernels, words, 100 * 130e-9, samples=3)

    ends = [span.value for _, span in spans]
    assert [start for start, _ in spans[1:]] == ends[:-1]
    assert len(set(ends[-3:])) == 3


@pytest.mark.parametrize(
    ("lines", "parts", "expected"),
    [(4, 2, [2, 2]), (5, 2, [2, 3]), (2, 4, [1, 1]), (1, 1, [1]), (10, 3, [3, 3, 4])],
)
def test_slices_cover_all_lines_once(lines: int, parts: int, expected: list[int]) -> None:
    slices = split_lines(lines * 64, parts)

    assert [nbytes // 64 for _, nbytes in slices] == expected
    assert [offset // 64 for offset, _ in slices] == [sum(expected[:i]) for i in range(len(slices))]


@pytest.mark.parametrize("nbytes", [0, 63, 100])
def test_slices_need_whole_lines(nbytes: int) -> None:
    with pytest.raises(ValueError, match="must be a positive multiple of 64"):
        split_lines(nbytes, 2)


def test_an_operation_that_does_not_exist(kernels: PlantedKernels) -> None:
    with pytest.raises(ValueError, match="'triad' is none of read, write, copy"):
        make_call(kernels, "triad", Arrays(0, 0, 64), 1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stream_counts_its_passes(kernels: PlantedKernels, operation: str) -> None:
    arrays, _buffers = make_arrays(1 << 14)

    window = StreamLoop(kernels, operation, arrays, ALLOWED).run(0.05)

    assert window.end_s - window.begin_s >= 0.05
    assert window.gb_per_s == pytest.approx(RATES[operation])
    assert list(window.start_ms) == sorted(window.start_ms)
    assert window.start_ms[0] == 0


def test_bandwidth_of_a_window_is_that_of_all_its_passes() -> None:
    window = StreamWindow(10.0, 10.4, 1000, start_ms=(0, 100, 200), pass_ms=(100, 100, 200))

    assert window.gb_per_s == pytest.approx(3000 / 0.4 / 1e9)


def test_a_stream_of_no_time_makes_one_pass(kernels: PlantedKernels) -> None:
    arrays, _buffers = make_arrays(1 << 20)

    window = StreamLoop(kernels, "read", arrays, ALLOWED[:1]).run(0)

    assert len(window.pass_ms) == 1


def test_a_stream_needs_a_line_for_each_thread(kernels: PlantedKernels) -> None:
    with pytest.raises(ValueError, match="64 bytes are too few for 2 CPUs"):
        StreamLoop(kernels, "read", Arrays(0, 0, 64), [0, 1])


def test_a_real_stream_goes_through_the_c_kernels(library: LibraryKernels) -> None:
    arrays, buffers = make_arrays(1 << 20)
    buffers[0].tensor.random_(0, 100)

    window = StreamLoop(library, "copy", arrays, ALLOWED).run(0.01)

    assert torch.equal(buffers[0].tensor, buffers[1].tensor)
    assert statistics.median(window.pass_ms) > 0
    assert window.end_s - window.begin_s >= 0.01


def test_each_thread_of_a_team_has_a_cpu_of_its_own() -> None:
    own = os.sched_getaffinity(0)
    with ThreadTeam(ALLOWED) as team:

        def read_affinity(_: Gate) -> set[int]:
            return os.sched_getaffinity(0)

        assert team.run([read_affinity] * len(ALLOWED)) == [{cpu} for cpu in ALLOWED]
        with pytest.raises(ValueError, match="calls for"):
            team.run([read_affinity] * (len(ALLOWED) + 1))

    assert os.sched_getaffinity(0) == own


def test_a_cpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="Invalid argument"), ThreadTeam([max(ALLOWED), 4000]):
        pass


@pytest.mark.parametrize(
    ("threads", "one_per_core", "expected"),
    [
        (None, True, (0, 1, 4)),
        (None, False, (0, 1, 4, 2, 3)),
        (2, False, (0, 1)),
        (4, False, (0, 1, 4, 2)),
        (4, True, (0, 1, 4)),
    ],
)
def test_cores_come_before_siblings(
    threads: int | None,
    one_per_core: bool,
    expected: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cpu, siblings in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items():  # 4: not said
        directory = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(siblings + "\n")
    monkeypatch.setattr(team_module, "current_backend", lambda: Backend(root=tmp_path))

    assert choose_cpus({4, 3, 2, 1, 0}, threads, one_per_core=one_per_core) == expected
