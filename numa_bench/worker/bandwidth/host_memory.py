"""The memory of a bandwidth run on the CPU: arrays and chains of one kind of pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from numa_bench.machine.huge_pages import measure_huge_fraction, read_huge_page_bytes
from numa_bench.records.measuring import LINE_BYTES
from numa_bench.worker.buffers import HostBuffer
from numa_bench.worker.memory_kernels.bandwidth import WORD, Arrays
from numa_bench.worker.memory_kernels.kernels import MemoryKernels
from numa_bench.worker.memory_kernels.latency import Chain, link_chain

#: Kinds of memory: as a program gets it, and with huge pages asked for.
MEMORY = ("pageable", "huge")
#: The kernels are checked over so much of the arrays.
_CHECKED_BYTES = 16_000_000
_WORD_BYTES = 8


@dataclass(frozen=True)
class HostMemory:
    """Memory of one kind: two arrays of the largest size, which smaller sizes use the begin of,
    and a chain for every size that needs one.

    `huge_fraction` is the part of it in huge pages; None: the kernel does not say.
    """

    kind: str
    buffers: tuple[HostBuffer, ...]
    source: torch.Tensor
    target: torch.Tensor
    chains: dict[int, Chain]
    huge_fraction: float | None

    def arrays(self, nbytes: int) -> Arrays:
        """Source and target of a size."""
        return Arrays(self.source.data_ptr(), self.target.data_ptr(), nbytes)


def make_memory(kind: str, array_bytes: int, chain_sizes: Sequence[int], seed: int) -> HostMemory:
    """Allocate and touch memory of a kind: `array_bytes` twice, and chains of some sizes.

    The source holds 0, 1, 2, ... as 64-bit words. `seed` makes the order of the chains.
    """
    source_buffer, source = _allocate(kind, array_bytes)
    target_buffer, target = _allocate(kind, array_bytes)
    torch.arange(len(source), out=source)
    buffers = [source_buffer, target_buffer]
    chains: dict[int, Chain] = {}
    if chain_sizes:
        chain_buffer, words = _allocate(kind, sum(chain_sizes))
        buffers.append(chain_buffer)
        begin = 0
        for size in chain_sizes:
            end = begin + size // _WORD_BYTES
            chains[size] = link_chain(words[begin:end], seed)
            begin = end
    fractions = [measure_huge_fraction(b.address, b.nbytes) for b in buffers]
    known = [fraction for fraction in fractions if fraction is not None]
    return HostMemory(kind, tuple(buffers), source, target, chains, min(known, default=None))


def check_kernels(kernels: MemoryKernels, memory: HostMemory) -> str | None:
    """What the kernels do wrong with this memory, or None. Source and chains stay as they are."""
    count = min(len(memory.source), _CHECKED_BYTES // _WORD_BYTES)
    source, target = memory.source[:count], memory.target[:count]
    address, nbytes = target.data_ptr(), count * _WORD_BYTES
    # torch adds modulo 2^64, too, but signed.
    expected = int(source.sum()) % 2**64
    if kernels.read(source.data_ptr(), nbytes).value != expected:
        return "the read kernel did not read what is in memory"
    kernels.write(address, nbytes, WORD)
    if not bool((target == WORD).all()):
        return "the write kernel did not write what it should"
    kernels.copy(address, source.data_ptr(), nbytes)
    if not torch.equal(source, target):
        return "the copy kernel did not copy what is in memory"
    for size, chain in memory.chains.items():
        if size > _CHECKED_BYTES:
            continue
        lines = size // LINE_BYTES
        if kernels.chase(*chain, chain.address, lines).value != chain.address:
            return f"the chain of {size} bytes does not come back after {lines} loads"
    return None


def _allocate(kind: str, nbytes: int) -> tuple[HostBuffer, torch.Tensor]:
    """A buffer of at least so many bytes, and its int64 words from the first huge page on."""
    if kind not in MEMORY:
        raise ValueError(f"memory {kind!r} is none of {', '.join(MEMORY)} on the CPU")
    words = nbytes // _WORD_BYTES
    if kind == "pageable":
        buffer = HostBuffer((words,), torch.int64)
        return buffer, buffer.tensor
    # A mapping need not begin where a huge page can.
    page = read_huge_page_bytes()
    buffer = HostBuffer((words + page // _WORD_BYTES,), torch.int64, huge_pages=True)
    skip = -buffer.address % page // _WORD_BYTES
    return buffer, buffer.tensor[skip : skip + words]
