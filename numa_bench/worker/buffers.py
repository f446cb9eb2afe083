"""Host memory of copies, by default such whose place can be proven.

Ordinary anonymous memory obeys the policy that numactl set and shows in the kernel's page tables;
memory from cudaHostAlloc is the driver's and need not. So buffers are mapped first, touched by
the bound process, and only then registered with cudaHostRegister (CUDA Runtime API, "Memory
Management"), which makes copies from them asynchronous.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch

#: Random data is made once for so many bytes and repeated: filling is a copy, not arithmetic.
_RANDOM_BYTES = 16_000_000


class Registrar(Protocol):
    """Page-locks host memory for a device; a `CudaRuntime` is one."""

    def register_host(self, address: int, nbytes: int) -> None: ...

    def unregister_host(self, address: int) -> None: ...


class Pinner(Protocol):
    """Allocates page-locked host memory of the driver's; a `CudaRuntime` is one."""

    def empty_pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor: ...


class WindowMarks(Protocol):
    """Brackets around what is done for a batch; `recorder.Marks` are such."""

    def push(self, name: str) -> None: ...

    def pop(self) -> None: ...


class MemoryKind(NamedTuple):
    """How host memory of copies is made; the arguments of `HostBuffer`. Nothing: pageable."""

    registrar: Registrar | None = None
    huge_pages: bool = False
    pinner: Pinner | None = None


class HostTimes(NamedTuple):
    """What a window spent on host work: milliseconds for each batch, and the seconds in which the
    submitting thread waited for it. Empty without host work."""

    ms: tuple[float, ...] = ()
    waited_s: float = 0.0


class HostBuffer:
    """A tensor over private anonymous memory of its own, page aligned.

    `address` and `nbytes` say where it is; every page is touched when the constructor returns. With
    a `registrar` the memory is page-locked for its device, which raises MachineError if it fails.
    `huge_pages` asks the kernel for transparent huge pages (madvise(2), MADV_HUGEPAGE): fewer
    entries for the device's address translation. `small_pages` asks for none (MADV_NOHUGEPAGE),
    whatever the system's setting. A kernel without them is no error.

    With a `pinner` the memory is the driver's instead, and `driver_owned` is True: the kernel need
    not answer for where its pages are.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        registrar: Registrar | None = None,
        *,
        huge_pages: bool = False,
        small_pages: bool = False,
        pinner: Pinner | None = None,
    ) -> None:
        count = math.prod(shape)
        self.nbytes = count * dtype.itemsize
        self.driver_owned = pinner is not None
        if pinner is not None:
            self.tensor = pinner.empty_pinned(tuple(shape), dtype).zero_()
            self.address = self.tensor.data_ptr()
            return
        # Python's default is MAP_SHARED, which the kernel backs with shmem: other huge page rules.
        self._map = mmap.mmap(-1, self.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if huge_pages:
            with contextlib.suppress(OSError, AttributeError):
                self._map.madvise(mmap.MADV_HUGEPAGE)
        if small_pages:
            with contextlib.suppress(OSError, AttributeError):
                self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.tensor = torch.frombuffer(self._map, dtype=dtype, count=count).view(*shape)
        # The kernel allocates a page when it is first touched, by the policy of the thread that
        # touches it (set_mempolicy(2)); new threads inherit that of numactl.
        self.tensor.zero_()
        self.address = self.tensor.data_ptr()
        if registrar is not None:
            registrar.register_host(self.address, self.nbytes)
            # Before the pages go, so that a later mapping of the same address can be registered.
            weakref.finalize(self, registrar.unregister_host, self.address).atexit = False


class BatchRing:
    """Batches in one host buffer, larger than the last-level cache, used round-robin.

    `buffer.tensor` has shape (batches, *batch_shape), with at least `least` batches. Reading and
    writing memory that no cache holds is what a real data feed does.
    """

    def __init__(
        self,
        batch_shape: Sequence[int],
        dtype: torch.dtype,
        *,
        nbytes: int,
        least: int = 2,
        registrar: Registrar | None = None,
        huge_pages: bool = False,
        pinner: Pinner | None = None,
    ) -> None:
        batch_bytes = math.prod(batch_shape) * dtype.itemsize
        self.batches = max(least, math.ceil(nbytes / batch_bytes))
        shape = (self.batches, *batch_shape)
        self.buffer = HostBuffer(shape, dtype, registrar, huge_pages=huge_pages, pinner=pinner)
        # Views are made once: to index a tensor for each batch is host time inside the window.
        self._rows = list(self.buffer.tensor.unbind(0))
        self._next = 0

    def host_buffers(self) -> list[HostBuffer]:
        """All host memory behind the batches."""
        return [self.buffer]

    def open_window(self, batches: int, marks: WindowMarks) -> None:
        """`batches` will be asked for; `marks` bracket host work on them. Here there is none."""

    def close_window(self) -> HostTimes:
        """The host work of the window; the batches that were announced have been given out."""
        return HostTimes()

    def next_batch(self) -> torch.Tensor:
        """The next batch, a view of shape `batch_shape`, ready to be copied."""
        return self.next_row()

    def release_batch(self, stream: Any) -> None:
        """The copy of the batch given out last was submitted to `stream`: when it has ended, the
        batch may be written again. Here nobody does."""

    def time_host_work(self) -> tuple[float, ...]:
        """Milliseconds of host work on batches while nothing else runs; empty without any."""
        return ()

    def reference_batch(self) -> torch.Tensor:
        """What the batch given out last has to be."""
        return self.last_batch()

    def row(self, index: int) -> torch.Tensor:
        """Batch `index` of the ring; does not advance it."""
        return self._rows[index]

    def next_row(self) -> torch.Tensor:
        """The next batch as it is, without host work."""
        batch = self._rows[self._next]
        self._next = (self._next + 1) % self.batches
        return batch

    def last_batch(self) -> torch.Tensor:
        """The batch that `next_batch` returned last."""
        return self._rows[self._next - 1]

    def position(self) -> int:
        """Where the ring is now, for `move_to`."""
        return self._next

    def move_to(self, position: int) -> None:
        """Go on as from an earlier `position`."""
        self._next = position

    def first_batch(self) -> torch.Tensor:
        """Batch 0; does not advance the ring."""
        return self._rows[0]


class SamplePool(BatchRing):
    """Host samples: a ring filled with standard normal values from `seed`."""

    def __init__(
        self,
        batch_shape: Sequence[int],
        dtype: torch.dtype,
        *,
        nbytes: int,
        seed: int,
        registrar: Registrar | None = None,
        huge_pages: bool = False,
        pinner: Pinner | None = None,
    ) -> None:
        super().__init__(
            batch_shape,
            dtype,
            nbytes=nbytes,
            registrar=registrar,
            huge_pages=huge_pages,
            pinner=pinner,
        )
        # A generator of its own leaves torch's global one, which seeds the weights, untouched.
        self._fill(torch.Generator().manual_seed(seed))

    def _fill(self, generator: torch.Generator) -> None:
        flat = self.buffer.tensor.view(-1)
        # Not a multiple of a batch, so that neighbouring batches differ.
        count = min(flat.numel(), _RANDOM_BYTES // flat.element_size() + 1)
        block = torch.randn(count, generator=generator).to(flat.dtype)
        for part in flat.split(count):
            part.copy_(block[: part.numel()])
