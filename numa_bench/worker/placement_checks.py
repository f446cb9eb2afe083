"""Is memory where the run was bound, and does the kernel say so? Of any worker's host buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from numa_bench.machine import page_placement
from numa_bench.records import Placement
from numa_bench.worker.devices import Waived
from numa_bench.worker.part import Part


class PlacedBuffer(Protocol):
    """Memory of this process whose pages have been touched; a `HostBuffer` is one.

    `driver_owned`: the driver allocated it, and the kernel need not say where its pages are.
    """

    address: int
    nbytes: int
    driver_owned: bool


def require_page_locations(placement: Placement, buffers: Sequence[PlacedBuffer]) -> None:
    """Raise Waived where memory is bound and the kernel does not say where pages are."""
    if not placement.memory_nodes:
        return
    own = [buffer for buffer in buffers if not buffer.driver_owned]
    if not own:
        return
    smallest = min(own, key=lambda buffer: buffer.nbytes)
    seen = page_placement.observe_placement([(smallest.address, smallest.nbytes)])
    if not seen["pages"] and not seen["pages_missing"]:
        raise Waived(
            "where memory is cannot be verified: this kernel or container refuses move_pages and "
            "/proc/self/numa_maps; in a container add --cap-add SYS_NICE, or measure without "
            "binding: experiment.hardware.numa_nodes=unbound"
        )


def check_placement(
    placement: Placement, buffers: Sequence[PlacedBuffer], threads: Mapping[str, int]
) -> Part:
    """Where it all really was; a run that was not where it was bound is invalid.

    `threads` are numbers of threads that work on the CPU, by the record's key.
    """
    asked = [b for b in buffers if not b.driver_owned or _has_known_pages(b)]
    observed = page_placement.observe_placement([(b.address, b.nbytes) for b in asked])
    unknown = sum(b.nbytes for b in buffers if b not in asked)
    observed["pages_unknown"] = unknown // observed["page_bytes"]
    fraction, problem = page_placement.judge_placement(placement, observed)
    warnings: tuple[str, ...] = ()
    if placement.policy == "preferred" and fraction is not None and fraction < 1:
        warnings = (
            f"preferred: memory spilled, only {fraction:.1%} of buffer pages are on the node",
        )
    if unknown and placement.memory_nodes:
        warnings += (
            f"placement: the kernel does not say where {observed['pages_unknown']} pages of pinned "
            "memory are; for them only the memory policy was verified",
        )
    return Part(
        observed={**observed, **threads},
        metrics={"placement_fraction": fraction},
        warnings=warnings,
        problem=problem,
    )


def _has_known_pages(buffer: PlacedBuffer) -> bool:
    """Whether the kernel says where all pages of a driver's buffer are."""
    seen = page_placement.observe_placement([(buffer.address, buffer.nbytes)])
    return bool(seen["pages"]) and not seen["pages_missing"]
