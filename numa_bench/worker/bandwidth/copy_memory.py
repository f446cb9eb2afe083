"""Host memory of every kind that is copied from and to a device, and how much of it fits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from numa_bench.machine.backend import current_backend
from numa_bench.machine.huge_pages import measure_huge_fraction
from numa_bench.machine.topology import read_topology
from numa_bench.records import RunSpec
from numa_bench.worker.bandwidth.copies import HostPair
from numa_bench.worker.bandwidth.copy_runtime import CopyRuntime
from numa_bench.worker.buffers import HostBuffer

REGISTERED, PINNED, PAGEABLE = "registered", "pinned", "pageable"
#: Added to the name of a kind whose memory is in transparent huge pages.
HUGE = "_huge"
#: Buffers of one kind: the source of copies to the device, the target of those from it.
PAIR = 2
#: Part of the free memory, of the host or the device, that buffers may take.
_MOST_OF_FREE = 0.8
#: The pattern repeats with this period: a prime, so that no block of a copy equals its neighbour.
_PATTERN_BYTES = 1_000_003


@dataclass(frozen=True)
class KindOfMemory:
    """A pair of buffers of one kind. `buffers` are those whose pages can be asked for by address;
    `driver_memory` are address and size of those that the driver allocated."""

    name: str
    pair: HostPair
    buffers: tuple[HostBuffer, ...] = ()
    driver_memory: tuple[tuple[int, int], ...] = ()

    def huge_fraction(self) -> float | None:
        """Part of the buffers that is in huge pages; None where that is not known."""
        parts = [measure_huge_fraction(b.address, b.nbytes) for b in self.buffers]
        known = [part for part in parts if part is not None]
        return sum(known) / len(known) if known else None


def allocate_kind(name: str, nbytes: int, runtime: CopyRuntime, seed: int) -> KindOfMemory:
    """A pair of buffers of `nbytes` bytes each, filled. Raises MachineError, RuntimeError.

    `name` is registered, pinned or pageable, the first and the last also with `HUGE` at the end.
    """
    if name == PINNED:
        source, target = (runtime.empty_pinned((nbytes,), torch.uint8) for _ in range(PAIR))
        at = tuple((tensor.data_ptr(), nbytes) for tensor in (source, target))
        return KindOfMemory(name, _fill_pair(source, target, False, seed), driver_memory=at)
    plain = name.removesuffix(HUGE)
    huge = name != plain
    registrar = runtime if plain == REGISTERED else None
    buffers = tuple(
        HostBuffer((nbytes,), torch.uint8, registrar, huge_pages=huge, small_pages=not huge)
        for _ in range(PAIR)
    )
    pair = _fill_pair(buffers[0].tensor, buffers[1].tensor, plain == PAGEABLE, seed)
    return KindOfMemory(name, pair, buffers)


def _fill_pair(source: torch.Tensor, target: torch.Tensor, pageable: bool, seed: int) -> HostPair:
    generator = torch.Generator().manual_seed(seed)
    count = min(source.numel(), _PATTERN_BYTES)
    # 1 to 255: a byte that was never written is 0 and differs.
    pattern = torch.randint(1, 256, (count,), dtype=torch.uint8, generator=generator)
    for begin in range(0, source.numel(), count):
        part = source[begin : begin + count]
        part.copy_(pattern[: part.numel()])
    target.zero_()  # touches every page
    return HostPair(source, target, pageable)


def choose_sizes(spec: RunSpec, runtime: CopyRuntime) -> tuple[tuple[int, ...], list[str]]:
    """The sizes whose buffers fit into free memory, ascending, and a warning for the others.

    Raises RuntimeError where none fits.
    """
    assert spec.bandwidth is not None
    wanted = tuple(sorted(spec.bandwidth.sizes_bytes))
    limits = {"the device": runtime.free_memory_bytes() * _MOST_OF_FREE / PAIR}
    kinds = len(spec.bandwidth.memory)
    free = _free_host_bytes(spec)
    if free is not None:
        limits["the host's nodes (page cache counts as used)"] = (
            free * _MOST_OF_FREE / (PAIR * kinds)
        )
    where = min(limits, key=lambda name: limits[name])
    most = limits[where]
    sizes = tuple(size for size in wanted if size <= most)
    left_out = [size for size in wanted if size > most]
    if not sizes:
        raise RuntimeError(
            f"no size fits: buffers on {where} may have {most / 1e6:.0f} MB each, the smallest of "
            f"experiment.bandwidth.sizes is {wanted[0] / 1e6:.0f} MB"
        )
    if not left_out:
        return sizes, []
    names = ", ".join(f"{size / 1e6:.0f} MB" for size in left_out)
    return sizes, [f"series: {names} left out, {where} has room for buffers of {most / 1e6:.0f} MB"]


def _free_host_bytes(spec: RunSpec) -> int | None:
    """Free memory of the nodes that memory is bound to, or of all; None where it is not known."""
    nodes = read_topology(current_backend().root).nodes
    bound = spec.placement.memory_nodes
    free = [n.memory_free_bytes for n in nodes if not bound or n.id in bound]
    known = [value for value in free if value is not None]
    return sum(known) if known else None
