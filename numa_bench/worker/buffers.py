"""Host memory whose place can be proven: anonymous pages, touched here, registered for CUDA.

Ordinary anonymous memory obeys the policy that numactl set and shows in the kernel's page tables;
memory from cudaHostAlloc is the driver's and need not. So buffers are mapped first, touched by
the bound process, and only then registered with cudaHostRegister (CUDA Runtime API, "Memory
Management"), which makes copies from them asynchronous.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import torch

from numa_bench.errors import MachineError

#: Random data is made once for so many bytes and repeated: filling is a copy, not arithmetic.
_RANDOM_BYTES = 16_000_000


class HostBuffer:
    """A tensor over private anonymous memory of its own, page aligned.

    `address` and `nbytes` say where; every page is touched when the constructor returns. With
    `register` the memory is page-locked for CUDA. Raises MachineError when it cannot be.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, *, register: bool) -> None:
        count = math.prod(shape)
        self.nbytes = count * dtype.itemsize
        self._map = mmap.mmap(-1, self.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.tensor = torch.frombuffer(self._map, dtype=dtype, count=count).view(*shape)
        self.tensor.zero_()
        self.address = self.tensor.data_ptr()
        if register:
            # 0 is cudaHostRegisterDefault. The result is a cudaError_t.
            code = int(torch.cuda.cudart().cudaHostRegister(self.address, self.nbytes, 0))
            if code:
                raise MachineError(
                    f"cudaHostRegister of {self.nbytes / 1e6:.0f} MB failed with CUDA error "
                    f"{code}; lower experiment.test.memory_size_mb, or raise `ulimit -l`"
                )
            # Before the pages go, so that a later mapping of the same address can be registered.
            weakref.finalize(self, _unregister, self.address).atexit = False


def _unregister(address: int) -> None:
    torch.cuda.cudart().cudaHostUnregister(address)


class SamplePool:
    """Host samples, larger than the last-level cache, read round-robin a batch at a time.

    `tensor` has shape (batches, *batch_shape). Samples are standard normal, from `seed`.
    """

    def __init__(
        self,
        batch_shape: Sequence[int],
        dtype: torch.dtype,
        *,
        nbytes: int,
        seed: int,
        register: bool,
    ) -> None:
        batch_bytes = math.prod(batch_shape) * dtype.itemsize
        self.batches = max(2, math.ceil(nbytes / batch_bytes))
        self.buffer = HostBuffer((self.batches, *batch_shape), dtype, register=register)
        self._fill(torch.Generator().manual_seed(seed))
        self._rows = list(self.buffer.tensor.unbind(0))
        self._next = 0

    def next_batch(self) -> torch.Tensor:
        """The next batch, a view of shape `batch_shape`."""
        batch = self._rows[self._next]
        self._next = (self._next + 1) % self.batches
        return batch

    def last_batch(self) -> torch.Tensor:
        """The batch that `next` gave last."""
        return self._rows[self._next - 1]

    def first_batch(self) -> torch.Tensor:
        """Batch 0, without moving on."""
        return self._rows[0]

    def _fill(self, generator: torch.Generator) -> None:
        flat = self.buffer.tensor.view(-1)
        # Not a multiple of a batch, so that neighbouring batches differ.
        count = min(flat.numel(), _RANDOM_BYTES // flat.element_size() + 1)
        block = torch.randn(count, generator=generator).to(flat.dtype)
        for part in flat.split(count):
            part.copy_(block[: part.numel()])
