"""Is memory where the run was bound, and does the kernel say so? Of any worker's host buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numa_bench.machine import page_placement
from numa_bench.records import Placement
from numa_bench.worker.devices import Waived
from numa_bench.worker.part import Part


class PlacedBuffer(Protocol):
    """Memory of this process whose pages have been touched; a `HostBuffer` is one."""

    address: int
    nbytes: int


def require_page_locations(placement: Placement, buffers: Sequence[PlacedBuffer]) -> None:
    """Raise Waived where memory is bound and the kernel does not say where pages are."""
    if not placement.memory_nodes:
        return
    smallest = min(buffers, key=lambda buffer: buffer.nbytes)
    seen = page_placement.observe_placement([(smallest.address, smallest.nbytes)])
    if not seen["pages"] and not seen["pages_missing"]:
        raise Waived(
            "where memory is cannot be verified: this kernel or container refuses move_pages and "
            "/proc/self/numa_maps; in a container add --cap-add SYS_NICE, or measure without "
            "binding: experiment.hardware.numa_nodes=unbound"
        )


def check_placement(placement: Placement, buffers: Sequence[PlacedBuffer], threads: int) -> Part:
    """Where it all really was; a run that was not where it was bound is invalid.

    `threads` is the number of threads that work on the CPU, for the record.
    """
    observed = page_placement.observe_placement([(b.address, b.nbytes) for b in buffers])
    fraction, problem = page_placement.judge_placement(placement, observed)
    warnings: tuple[str, ...] = ()
    if placement.policy == "preferred" and fraction is not None and fraction < 1:
        warnings = (
            f"preferred: memory spilled, only {fraction:.1%} of buffer pages are on the node",
        )
    return Part(
        observed={**observed, "cpu_threads": threads},
        metrics={"placement_fraction": fraction},
        warnings=warnings,
        problem=problem,
    )
