"""The memory kernels of this machine: the C library where it is built, else numba, else neither.

Sizes are multiples of `LINE_BYTES` and addresses are aligned to it. Times are seconds of
`time.monotonic`. ctypes lets other threads run while a function of a library does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from pathlib import Path
from typing import NamedTuple, Protocol

from numa_bench.errors import MachineError
from numa_bench.machine.backend import current_backend
from numa_bench.records.measuring import LINE_BYTES
from numa_bench.worker.memory_kernels import build

#: How long a member of a team waits for the others before it gives up.
GATE_S = 30.0


class KernelsUnavailable(MachineError):  # noqa: N818 - a state of the machine, not a mistake
    """There are no memory kernels here; the message says why and which command builds them."""


class Span(NamedTuple):
    """When a call of a kernel began and ended, after its gate, and what it returned."""

    begin_s: float
    end_s: float
    value: int = 0


class Gate:
    """Where the threads of a team wait for each other, for one call each.

    Kernels in C count in `counter`, where waiting needs no interpreter lock; others use `wait`.
    """

    def __init__(self, team: int) -> None:
        self.team = team
        self.counter = ctypes.c_uint32(0)
        self._barrier = threading.Barrier(team)

    def wait(self) -> None:
        """Wait for the others. Raises threading.BrokenBarrierError after `GATE_S`."""
        self._barrier.wait(GATE_S)


class MemoryKernels(Protocol):
    """Kernels over memory of this process. A call covers its range `passes` times.

    With a `gate` the call begins when the whole team has arrived. `name` is for the record.
    """

    name: str

    def read(self, address: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None) -> Span:
        """Read; the value is the sum of the 64-bit words of all passes, modulo 2^64."""

    def write(
        self, address: int, nbytes: int, word: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        """Make every 64-bit word `word`."""

    def copy(
        self,
        target: int,
        source: int,
        nbytes: int,
        *,
        passes: int = 1,
        gate: Gate | None = None,
    ) -> Span:
        """Copy `nbytes` bytes; the ranges do not overlap."""

    def chase(self, address: int, nbytes: int, start: int, loads: int) -> Span:
        """Follow a chain of addresses, `loads` links from `start` on; the value is where it ends.

        All of the chain is in the `nbytes` at `address` (see `latency.link_chain`).
        """


def load_kernels() -> MemoryKernels:
    """The kernels of this machine, or of the simulated one in its place.

    Raises KernelsUnavailable where there is neither a built library nor numba.
    """
    simulated = current_backend().memory_kernels
    if simulated is not None:
        kernels: MemoryKernels = simulated()
        return kernels
    try:
        return load_library()
    except KernelsUnavailable as reason:
        if importlib.util.find_spec("numba") is None:
            raise
        from numa_bench.worker.memory_kernels.numba_kernels import NumbaKernels

        try:
            return NumbaKernels(f"numba (no C library: {reason})")
        except ImportError as error:  # installed, but not for this numpy, for instance
            raise KernelsUnavailable(f"{reason}; numba cannot be imported: {error}") from error


def load_library() -> LibraryKernels:
    """The kernels of the built library. Raises KernelsUnavailable."""
    path = build.find_library()
    if path is None:
        raise KernelsUnavailable(
            f"the memory kernels are not built for this version and CPU; run: {build.COMMAND}"
        )
    try:
        return LibraryKernels(path)
    except (OSError, AttributeError) as error:
        raise KernelsUnavailable(
            f"{path} cannot be loaded: {error}; run: {build.COMMAND}"
        ) from error


class _Call(ctypes.Structure):
    """`struct call` of kernels.c."""

    _fields_ = (
        ("arrived", ctypes.POINTER(ctypes.c_uint32)),
        ("team", ctypes.c_uint32),
        ("limit_ns", ctypes.c_int64),
        ("begin_ns", ctypes.c_int64),
        ("end_ns", ctypes.c_int64),
    )


class LibraryKernels:
    """The kernels of kernels.c.

    Raises OSError when the library cannot be loaded or is another build than its name says.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.memory_kernels_id.restype = ctypes.c_char_p
        made_for = library.memory_kernels_id().decode()
        if made_for != build.library_id():
            raise OSError(f"built as {made_for}, expected {build.library_id()}")
        call, address, size = ctypes.POINTER(_Call), ctypes.c_void_p, ctypes.c_size_t
        self._read = library.memory_read
        self._read.argtypes = (call, address, size, size)
        self._read.restype = ctypes.c_uint64
        self._write = library.memory_write
        self._write.argtypes = (call, address, size, size, ctypes.c_uint64)
        self._write.restype = None
        self._copy = library.memory_copy
        self._copy.argtypes = (call, address, address, size, size)
        self._copy.restype = None
        self._chase = library.memory_chase
        self._chase.argtypes = (call, address, size)
        self._chase.restype = ctypes.c_uint64
        self.name = "C"

    def read(self, address: int, nbytes: int, *, passes: int = 1, gate: Gate | None = None) -> Span:
        check_lines(nbytes, address)
        call = _make_call(gate)
        return _read_span(call, self._read(call, address, nbytes, passes))

    def write(
        self, address: int, nbytes: int, word: int, *, passes: int = 1, gate: Gate | None = None
    ) -> Span:
        check_lines(nbytes, address)
        call = _make_call(gate)
        self._write(call, address, nbytes, passes, word)
        return _read_span(call)

    def copy(
        self,
        target: int,
        source: int,
        nbytes: int,
        *,
        passes: int = 1,
        gate: Gate | None = None,
    ) -> Span:
        check_lines(nbytes, target, source)
        call = _make_call(gate)
        self._copy(call, target, source, nbytes, passes)
        return _read_span(call)

    def chase(self, address: int, nbytes: int, start: int, loads: int) -> Span:
        check_lines(nbytes, address, start)
        call = _make_call(None)
        return _read_span(call, self._chase(call, start, loads))


def check_lines(nbytes: int, *addresses: int) -> None:
    """Raise ValueError unless size and addresses are multiples of a cache line."""
    if any(number % LINE_BYTES for number in (nbytes, *addresses)):
        raise ValueError(f"{nbytes} bytes at {addresses} are not whole lines of {LINE_BYTES} bytes")


def _make_call(gate: Gate | None) -> _Call:
    limit = int(GATE_S * 1e9)
    if gate is None:
        return _Call(None, 1, limit, 0, 0)
    # The structure keeps a reference to the counter.
    return _Call(ctypes.pointer(gate.counter), gate.team, limit, 0, 0)


def _read_span(call: _Call, value: int = 0) -> Span:
    if call.end_ns < 0:
        raise TimeoutError(f"a team of {call.team} threads was not complete after {GATE_S:g} s")
    return Span(call.begin_ns / 1e9, call.end_ns / 1e9, value)
