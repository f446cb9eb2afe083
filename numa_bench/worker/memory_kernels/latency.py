"""Latency of memory: a chain of addresses in random order, each load waiting for the one before.

The chain visits every cache line of its memory once and comes back, in an order that no prefetcher
can follow. A random order of all lines, each linked to the next and the last to the first, is a
uniformly random cycle: what Sattolo's algorithm makes ("An algorithm to generate a random cyclic
permutation", 1986), without a loop over lines in Python. A load includes the translation of its
address; in small pages most loads of a large chain miss the TLB, in huge pages few do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from numa_bench.records.measuring import LINE_BYTES
from numa_bench.worker.memory_kernels.bandwidth import grow_until
from numa_bench.worker.memory_kernels.kernels import Gate, MemoryKernels, Span
from numa_bench.worker.memory_kernels.team import ThreadTeam

_WORDS = LINE_BYTES // 8


class Chain(NamedTuple):
    """A chain in `nbytes` at `address`; it can be entered at any line."""

    address: int
    nbytes: int


def link_chain(words: torch.Tensor, seed: int) -> Chain:
    """Link the cache lines of a tensor into one random cycle, by the first word of each.

    `words` is an int64 tensor of shape (n,), contiguous host memory aligned to a line, n a positive
    multiple of 8; what was in the first word of each line is lost. Raises ValueError otherwise.
    """
    address = words.data_ptr()
    if not words.numel() or words.numel() % _WORDS or address % LINE_BYTES:
        raise ValueError(f"{words.numel()} words at {address} are not whole lines")
    lines = words.numel() // _WORDS
    order = torch.randperm(lines, generator=torch.Generator().manual_seed(seed))
    words.view(lines, _WORDS)[:, 0][order] = order.roll(-1) * LINE_BYTES + address
    return Chain(address, words.numel() * 8)


class LatencyPoint:
    """Loads along one chain by the first thread of a team, measured again and again.

    A sample goes on where the one before ended, so that it does not find its lines in a cache.
    """

    threads = 1

    def __init__(self, kernels: MemoryKernels, team: ThreadTeam, chain: Chain) -> None:
        self.loads = 1
        self._kernels = kernels
        self._team = team
        self._chain = chain
        self._position = chain.address

    def calibrate(self, seconds: float) -> None:
        """Choose `loads` so that a sample takes about so long. Warms up, too."""
        self.loads = grow_until(seconds, self._time)

    def sample(self) -> float:
        """Nanoseconds per load."""
        return self._time(self.loads) / self.loads * 1e9

    def _time(self, loads: int) -> float:
        def chase(_: Gate) -> Span:
            return self._kernels.chase(*self._chain, self._position, loads)

        (span,) = self._team.run([chase])
        self._position = span.value
        return span.end_s - span.begin_s
