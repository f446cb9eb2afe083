"""Fit cells to what this process was granted: waive those outside it, narrow those across. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from numa_bench.machine.allocation import Allocation
from numa_bench.machine.model import Gpu
from numa_bench.plan.affinity import PHYSCPU
from numa_bench.records import NOT_GRANTED, RunSpec
from numa_bench.records.cpu_lists import format_cpu_list


def fit_cells(
    cells: Sequence[RunSpec], allocation: Allocation, visible: Sequence[Gpu]
) -> tuple[list[RunSpec], list[str]]:
    """The cells as they can run here, and a warning for each reason why some cannot.

    A cell whose GPU, memory nodes or CPUs were not granted gets the reason in `waived`. One that
    was granted a part of its CPUs runs on these. `visible` are the granted GPUs.
    """
    fitted = [_fit(cell, allocation, visible) for cell in cells]
    reasons = Counter(cell.waived for cell in fitted if cell.waived is not None)
    warnings = [f"{reason}; {_count(number)} waived" for reason, number in reasons.items()]
    narrowed = {
        (old.placement.numa_node, old.placement.cpus, new.placement.cpus)
        for old, new in zip(cells, fitted, strict=True)
        if new.waived is None and old.placement.cpus != new.placement.cpus
    }
    warnings += [
        f"node {node}: {len(kept)} of {len(wanted)} CPUs are granted to {allocation.source}; its "
        f"runs use CPUs {format_cpu_list(kept)}, and are not those of a whole node"
        for node, wanted, kept in sorted(narrowed)
    ]
    return fitted, warnings


def _count(number: int) -> str:
    return "1 cell is" if number == 1 else f"{number} cells are"


def _fit(cell: RunSpec, allocation: Allocation, visible: Sequence[Gpu]) -> RunSpec:
    if cell.members:
        members = tuple(
            replace(member, spec=_fit(member.spec, allocation, visible)) for member in cell.members
        )
        reason = next((m.spec.waived for m in members if m.spec.waived is not None), None)
        return replace(cell, members=members, waived=reason)
    reason = _find_refusal(cell, allocation, visible)
    if reason is not None:
        return replace(cell, waived=f"{NOT_GRANTED}{reason}")
    if allocation.cpus is None or set(cell.placement.cpus) <= allocation.cpus:
        return cell
    kept = tuple(cpu for cpu in cell.placement.cpus if cpu in allocation.cpus)
    # By number: --cpunodebind would leave an allocation that is only a CPU mask.
    return replace(cell, placement=replace(cell.placement, cpus=kept, by_cpu=True))


def _find_refusal(cell: RunSpec, allocation: Allocation, visible: Sequence[Gpu]) -> str | None:
    """Why a cell cannot run in this allocation, or None."""
    device, placement = cell.device, cell.placement
    granted_gpus = {gpu.index for gpu in visible}
    missing_gpus = [gpu for gpu in device.gpu_ids if gpu not in granted_gpus]
    if missing_gpus:
        limits = " and ".join(allocation.gpu_limits) or allocation.source
        return f"GPU {', '.join(map(str, missing_gpus))} ({limits})"
    nodes = set(placement.memory_nodes)
    if allocation.memory_nodes is not None and nodes:
        # `local` lists every node that the kernel may choose; under the others each is needed.
        granted = nodes & allocation.memory_nodes
        if not granted or (placement.policy != "local" and granted != nodes):
            missing = format_cpu_list(nodes - allocation.memory_nodes)
            have = format_cpu_list(allocation.memory_nodes)
            return f"memory of node {missing} (nodes {have} are granted to {allocation.source})"
    if allocation.cpus is None or placement.numa_node is None:
        return None
    # CPUs by number are meant as they are, and a stream has a thread for each of its CPUs.
    as_they_are = placement.affinity.startswith(PHYSCPU) or cell.stream is not None
    wanted = set(placement.cpus)
    if wanted.isdisjoint(allocation.cpus) or (as_they_are and not wanted <= allocation.cpus):
        have = format_cpu_list(allocation.cpus)
        missing = format_cpu_list(wanted - allocation.cpus)
        where = f"CPUs {missing} of node {placement.numa_node}"
        return f"{where} (CPUs {have} are granted to {allocation.source})"
    return None
