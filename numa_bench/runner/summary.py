"""Pure: records to the rows of the closing table, one row per cell."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from numa_bench.marks import format_marks
from numa_bench.records import DeviceSpec, JsonDict, RunSpec, TestSpec, VitSpec

_METRIC = "throughput_samples_per_s"
_Measured = tuple[DeviceSpec, VitSpec, TestSpec]


@dataclass(frozen=True)
class Row:
    """One cell: a model with its settings, on a device, in a placement.

    `throughput` holds one value per passed run, in samples/s; `to_local` is the median's
    difference to the local placement's of the same model and device, as a fraction; `marks` are
    those of the runs' warnings.
    """

    device: str
    model: str
    cpu_node: str
    memory: str
    placement: str
    planned: int
    throughput: tuple[float, ...]
    statuses: tuple[str, ...]
    to_local: float | None
    marks: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.throughput) if self.throughput else None


def build_rows(
    cells: Sequence[RunSpec], runs: Sequence[RunSpec], records: Sequence[JsonDict]
) -> list[Row]:
    """One row per cell: device by device, model by model in the order given, then placements."""
    by_id = {record["run_id"]: record for record in records}
    repeats_of = group_by_cell(cells, runs)
    varied = varied_settings(runs)
    found = {
        key: [by_id[run.run_id] for run in repeats if run.run_id in by_id]
        for key, repeats in repeats_of.items()
    }
    local: dict[_Measured, list[float]] = {}
    for cell in cells:
        if cell.placement.label == "local":
            local.setdefault(_measured(cell), []).extend(_throughput(found[cell.cell_hash()]))
    table = []
    for key, repeats in repeats_of.items():
        run, values = repeats[0], _throughput(found[key])
        base = local.get(_measured(run))
        compared = run.placement.label != "local" and base and values
        table.append(
            Row(
                *_group(run, varied),
                cpu_node=node_text(run.placement.numa_node),
                memory=memory_text(run),
                placement=run.placement.label,
                planned=len(repeats),
                throughput=values,
                statuses=tuple(record["status"] for record in found[key]),
                to_local=(
                    statistics.median(values) / statistics.median(base) - 1
                    if compared and base
                    else None
                ),
                marks=format_marks(
                    [w for record in found[key] for w in record.get("warnings", ())]
                ),
            )
        )
    order = {name: i for i, name in enumerate(dict.fromkeys((r.device, r.model) for r in table))}
    devices = {name: i for i, name in enumerate(dict.fromkeys(r.device for r in table))}
    return sorted(table, key=lambda r: (devices[r.device], order[r.device, r.model]))


def _throughput(records: Sequence[JsonDict]) -> tuple[float, ...]:
    """Of the runs that passed; it is null where it could not be computed."""
    return tuple(r[_METRIC] for r in records if r["success"] and r[_METRIC])


def group_by_cell(cells: Sequence[RunSpec], runs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """The runs of every cell, by its hash, in the order of the cells."""
    found: dict[str, list[RunSpec]] = {cell.cell_hash(): [] for cell in cells}
    for run in runs:
        found[run.cell_hash()].append(run)
    return found


def varied_settings(runs: Sequence[RunSpec]) -> list[str]:
    """`test` settings that are not the same in all runs, and so must be shown."""
    if not runs:
        return []
    first = runs[0].test
    names = [n for n in first.__dataclass_fields__ if n not in ("compile_mode", "timeout_s")]
    return [n for n in names if any(getattr(r.test, n) != getattr(first, n) for r in runs)]


def device_text(run: RunSpec) -> str:
    """How a device is shown: GPU number and its node, or CPU."""
    device = run.device
    if device.kind == "cpu":
        return "CPU"
    node = device.gpu_numa_node
    return f"GPU {device.gpu_id} (node {node if node is not None and node >= 0 else '?'})"


def node_text(node: int | None) -> str:
    """A CPU node, or that there is none."""
    return "any" if node is None else str(node)


def memory_text(run: RunSpec) -> str:
    """Memory nodes with their policy where it is not bind."""
    placement = run.placement
    nodes = ",".join(map(str, placement.memory_nodes)) or "any"
    return nodes if placement.policy in ("bind", "none") else f"{nodes} ({placement.policy})"


def model_text(run: RunSpec, varied: Sequence[str]) -> str:
    """The model with the settings in which it differs from others of this study."""
    parts = [run.vit.name]
    for name in varied:
        value = getattr(run.test, name)
        if name == "compile_model":
            parts.append(f"compiled:{run.test.compile_mode}" if value else "eager")
        else:
            parts.append(f"{name}={value}")
    if run.test.compile_model and "compile_model" not in varied:
        parts.append(f"compiled:{run.test.compile_mode}")
    return " ".join(parts)


def _measured(run: RunSpec) -> _Measured:
    """What a cell and the local cell that it is compared to have in common."""
    return run.device, run.vit, run.test


def _group(run: RunSpec, varied: Sequence[str]) -> tuple[str, str]:
    return device_text(run), model_text(run, varied)
