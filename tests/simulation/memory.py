"""Memory of a simulated device: real bytes on the CPU, found again by the address of a tensor.

A tensor that the allocator gives out holds a lease of its block. When the last tensor over it is
gone, the block goes to the next allocation of the stream that owns it, at once and whatever other
streams still do with it: that is what torch's caching allocator does.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import weakref
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import torch


@dataclass(eq=False)
class Buffer:
    """A range of memory with a name. `memory` keeps the bytes of device memory alive."""

    name: str
    address: int
    nbytes: int
    on_host: bool
    memory: ctypes.Array[ctypes.c_char] | None = None


@dataclass(frozen=True)
class Region:
    """The bytes of one buffer that a tensor covers, and a tensor over them that holds no lease."""

    buffer: Buffer
    begin: int
    end: int
    tensor: torch.Tensor


class MemoryMap:
    """All memory that the device can reach: its own blocks and registered host ranges."""

    def __init__(self) -> None:
        self._addresses: list[int] = []
        self._buffers: dict[int, Buffer] = {}
        self._free: dict[tuple[Hashable, int], list[Buffer]] = defaultdict(list)
        self._blocks = self._ranges = 0
        self.live_bytes = self.peak_bytes = 0

    def register(self, address: int, nbytes: int) -> None:
        """A range of host memory that copies may use."""
        self._ranges += 1
        self._add(Buffer(f"host range {self._ranges}", address, nbytes, on_host=True))

    def unregister(self, address: int) -> Buffer:
        """The range that begins at `address`, gone. Raises KeyError."""
        self._addresses.remove(address)
        return self._buffers.pop(address)

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype, owner: Hashable) -> torch.Tensor:
        """Device memory for a stream: its block of this size that was freed last, or a new one."""
        nbytes = max(1, math.prod(shape) * dtype.itemsize)
        free = self._free[owner, nbytes]
        block = free.pop() if free else self._new_block(nbytes)
        assert block.memory is not None
        lease = (ctypes.c_char * nbytes).from_buffer(block.memory)
        weakref.finalize(lease, self._release, block, free).atexit = False
        self.live_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return torch.frombuffer(lease, dtype=dtype, count=math.prod(shape)).view(shape)

    def find(self, tensor: torch.Tensor) -> Region | None:
        """Where a contiguous tensor is; None for memory that the device cannot reach."""
        address = tensor.data_ptr()
        place = bisect.bisect_right(self._addresses, address) - 1
        if place < 0:
            return None
        buffer = self._buffers[self._addresses[place]]
        begin = address - buffer.address
        end = begin + tensor.numel() * tensor.element_size()
        if end > buffer.nbytes:
            return None
        assert tensor.is_contiguous(), "the simulation knows contiguous tensors only"
        if buffer.memory is None:
            return Region(buffer, begin, end, tensor)
        plain = torch.frombuffer(
            buffer.memory, dtype=tensor.dtype, count=tensor.numel(), offset=begin
        )
        return Region(buffer, begin, end, plain.view(tensor.shape))

    def _new_block(self, nbytes: int) -> Buffer:
        memory = ctypes.create_string_buffer(b"\xff" * nbytes, nbytes)  # NaN in every float type
        self._blocks += 1
        name = f"device block {self._blocks}"
        block = Buffer(name, ctypes.addressof(memory), nbytes, on_host=False, memory=memory)
        self._add(block)
        return block

    def _add(self, buffer: Buffer) -> None:
        bisect.insort(self._addresses, buffer.address)
        self._buffers[buffer.address] = buffer

    def _release(self, block: Buffer, free: list[Buffer]) -> None:
        free.append(block)
        self.live_bytes -= block.nbytes
