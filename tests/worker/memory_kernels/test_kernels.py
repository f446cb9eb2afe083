"""Each kernel does to memory what it says, and a team starts together."""

from __future__ import annotations

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from numa_bench.worker.buffers import HostBuffer
from numa_bench.worker.memory_kernels import build
from numa_bench.worker.memory_kernels import kernels as module
from numa_bench.worker.memory_kernels.kernels import Gate, LibraryKernels, MemoryKernels
from numa_bench.worker.memory_kernels.latency import link_chain

HAS_NUMBA = importlib.util.find_spec("numba") is not None
#: One line, fewer than the kernel's four sums, and some more than a multiple of four.
SIZES = (64, 3 * 64, 37 * 64)


@pytest.fixture(params=["C", "numba", "numba's source"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MemoryKernels:
    """The kernels of C, of numba, and the functions that numba compiles, run by Python."""
    if request.param == "C":
        library: LibraryKernels = request.getfixturevalue("library")
        return library
    if request.param == "numba" and not HAS_NUMBA:
        pytest.skip("numba is not installed; it is no dependency")
    if request.param == "numba's source":
        plain = SimpleNamespace(njit=lambda **_: lambda function: function)
        monkeypatch.setitem(sys.modules, "numba", plain)
    from numa_bench.worker.memory_kernels.numba_kernels import NumbaKernels

    return NumbaKernels()


def make_words(nbytes: int, seed: int = 0) -> HostBuffer:
    """A buffer of random non-negative words. Small enough that sums do not overflow."""
    buffer = HostBuffer((nbytes // 8,), torch.int64)
    buffer.tensor.random_(0, 2**40, generator=torch.Generator().manual_seed(seed))
    return buffer


@pytest.mark.parametrize("nbytes", SIZES)
def test_read_adds_all_words_of_all_passes(kernels: MemoryKernels, nbytes: int) -> None:
    buffer = make_words(nbytes + 64)
    expected = int(buffer.tensor[: nbytes // 8].sum())

    assert kernels.read(buffer.address, nbytes).value == expected
    assert kernels.read(buffer.address, nbytes, passes=3).value == 3 * expected


def test_a_sum_beyond_64_bits_wraps(library: LibraryKernels) -> None:
    buffer = HostBuffer((8,), torch.int64)
    buffer.tensor.fill_(-1)

    assert library.read(buffer.address, 64).value == 2**64 - 8


@pytest.mark.parametrize("nbytes", SIZES)
def test_write_changes_every_word_and_no_other(kernels: MemoryKernels, nbytes: int) -> None:
    buffer = make_words(nbytes + 128)
    before = buffer.tensor.clone()

    kernels.write(buffer.address + 64, nbytes, 77, passes=2)

    before[8 : 8 + nbytes // 8] = 77
    assert torch.equal(buffer.tensor, before)


@pytest.mark.parametrize("nbytes", SIZES)
def test_copy_copies_every_word_and_no_other(kernels: MemoryKernels, nbytes: int) -> None:
    source, target = make_words(nbytes + 128), make_words(nbytes + 128, seed=1)
    original, expected = source.tensor.clone(), target.tensor.clone()

    kernels.copy(target.address + 64, source.address + 64, nbytes, passes=2)

    inside = slice(8, 8 + nbytes // 8)
    expected[inside] = original[inside]
    assert torch.equal(target.tensor, expected)
    assert torch.equal(source.tensor, original)


def test_the_chase_follows_the_chain(kernels: MemoryKernels) -> None:
    lines = 50
    buffer = make_words(lines * 64)
    chain = link_chain(buffer.tensor, seed=3)
    words = buffer.tensor.tolist()

    position, visited = chain.address, []
    for loads in range(1, lines + 1):
        position = words[(position - chain.address) // 8]
        visited.append(position)
        assert kernels.chase(*chain, chain.address, loads).value == position

    assert sorted(visited) == [chain.address + 64 * line for line in range(lines)]
    assert visited[-1] == chain.address


@pytest.mark.parametrize("lines", [1, 2, 3, 1000])
def test_a_chain_is_one_cycle_of_all_lines(library: LibraryKernels, lines: int) -> None:
    buffer = make_words(lines * 64)
    chain = link_chain(buffer.tensor, seed=0)

    ends = [library.chase(*chain, chain.address, loads).value for loads in range(1, lines + 1)]

    assert len(set(ends)) == lines
    assert ends.index(chain.address) == lines - 1


def test_the_order_of_a_chain_comes_from_its_seed() -> None:
    buffer = make_words(64 * 64)
    links = []
    for seed in (0, 0, 1):
        link_chain(buffer.tensor, seed)
        links.append(buffer.tensor[::8].tolist())

    assert links[0] == links[1] != links[2]


def test_a_chain_needs_whole_lines() -> None:
    buffer = make_words(128)
    for words in (buffer.tensor[:0], buffer.tensor[:9], buffer.tensor[1:9]):
        with pytest.raises(ValueError, match="not whole lines"):
            link_chain(words, 0)


def test_part_of_a_line_is_refused(kernels: MemoryKernels) -> None:
    buffer = make_words(128)
    with pytest.raises(ValueError, match="not whole lines"):
        kernels.read(buffer.address, 65)
    with pytest.raises(ValueError, match="not whole lines"):
        kernels.write(buffer.address + 8, 64, 0)
    with pytest.raises(ValueError, match="not whole lines"):
        kernels.copy(buffer.address, buffer.address + 72, 64)
    with pytest.raises(ValueError, match="not whole lines"):
        kernels.chase(buffer.address, 128, buffer.address + 4, 1)


def test_times_are_those_of_the_monotonic_clock(kernels: MemoryKernels) -> None:
    buffer = make_words(64 * 64)
    before = time.monotonic()
    spans = [
        kernels.read(buffer.address, buffer.nbytes),
        kernels.write(buffer.address, buffer.nbytes, 0),
        kernels.copy(buffer.address, buffer.address + 64 * 32, 64 * 32),
        kernels.chase(*link_chain(buffer.tensor, 0), buffer.address, 10),
    ]
    after = time.monotonic()

    times = [time for span in spans for time in span[:2]]
    # The last digits of a number of seconds are lost on the way from nanoseconds.
    assert before - 1e-6 <= times[0]
    assert times == sorted(times)
    assert times[-1] <= after + 1e-6


@pytest.mark.parametrize("operation", ["read", "write", "copy"])
def test_nobody_starts_before_the_team_is_complete(library: LibraryKernels, operation: str) -> None:
    buffer, gate = make_words(128), Gate(2)
    calls = {
        "read": lambda: library.read(buffer.address, 64, gate=gate),
        "write": lambda: library.write(buffer.address, 64, 0, gate=gate),
        "copy": lambda: library.copy(buffer.address, buffer.address + 64, 64, gate=gate),
    }
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(calls[operation])
        deadline = time.monotonic() + 20
        while gate.counter.value < 1:
            assert time.monotonic() < deadline, "the first member did not arrive"
        arrived = time.monotonic()
        second = calls[operation]()

    assert second.begin_s >= arrived - 1e-6
    assert first.result().begin_s >= arrived - 1e-6


def test_a_team_that_stays_incomplete_is_an_error(
    library: LibraryKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATE_S", 0.001)
    buffer = make_words(64)

    with pytest.raises(TimeoutError, match="a team of 2 threads was not complete"):
        library.read(buffer.address, 64, gate=Gate(2))


def test_numba_where_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_library", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(module.KernelsUnavailable, match="not built"):
        module.load_kernels()

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "numba", None)  # importing it raises ImportError
    with pytest.raises(module.KernelsUnavailable, match=r"not built .*; numba cannot be imported"):
        module.load_kernels()

    plain = SimpleNamespace(njit=lambda **_: lambda function: function)
    monkeypatch.setitem(sys.modules, "numba", plain)

    assert module.load_kernels().name.startswith("numba (no C library: the memory kernels")
