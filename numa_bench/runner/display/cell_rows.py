"""From records to the rows of the closing table, one row per cell. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from numa_bench.labels import (
    add_affinity,
    compile_label,
    device_label,
    find_base_label,
    memory_label,
    node_label,
    setting_label,
)
from numa_bench.marks import format_marks
from numa_bench.metric_registry import Metric, find_metric, headline_metric
from numa_bench.records import DeviceSpec, Record, RunSpec, TestSpec, VitSpec
from numa_bench.records.cpu_lists import format_cpu_list

_Measured = tuple[DeviceSpec, VitSpec, TestSpec, tuple[str, ...], str | None]


@dataclass(frozen=True)
class Row:
    """One cell: a model with its settings, on a device, in a placement.

    `throughput` holds one value per passed run, of the metric by which this workload's placements
    are compared (`metric_registry.headline_metric`); `to_local` is the median's
    difference to the local placement's of the same model and device, as a fraction (where lower is
    better that of the reciprocals, so that below 0 is always worse); `marks` are those of the runs'
    warnings.
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
    cells: Sequence[RunSpec], runs: Sequence[RunSpec], records: Sequence[Record]
) -> list[Row]:
    """One row per cell: device by device, model by model in the order given, then placements."""
    by_id = {record["run_id"]: record for record in records}
    repeats_of = group_by_cell(cells, runs)
    varied = varied_settings(runs)
    found = {
        key: [by_id[run.run_id] for run in repeats if run.run_id in by_id]
        for key, repeats in repeats_of.items()
    }
    labels: dict[_Measured, set[str]] = {}
    for cell in cells:
        labels.setdefault(_measured(cell), set()).add(placement_text(cell))
    bases = {measured: find_base_label(own) for measured, own in labels.items()}
    local: dict[_Measured, list[float]] = {}
    for cell in cells:
        if placement_text(cell) == bases[_measured(cell)]:
            local.setdefault(_measured(cell), []).extend(_throughput(found[cell.cell_hash()]))
    table = []
    for key, repeats in repeats_of.items():
        run, values = repeats[0], _throughput(found[key])
        base = local.get(_measured(run))
        compared = placement_text(run) != bases[_measured(run)] and base and values
        table.append(
            Row(
                *_group(run, varied),
                cpu_node=cpu_text(run),
                memory=memory_text(run),
                placement=placement_text(run),
                planned=len(repeats),
                throughput=values,
                statuses=tuple(record["status"] for record in found[key]),
                to_local=_compare(run, values, base) if compared and base else None,
                marks=format_marks([w for record in found[key] for w in record["warnings"]]),
            )
        )
    order = {name: i for i, name in enumerate(dict.fromkeys((r.device, r.model) for r in table))}
    devices = {name: i for i, name in enumerate(dict.fromkeys(r.device for r in table))}
    return sorted(table, key=lambda r: (devices[r.device], order[r.device, r.model]))


def _compare(run: RunSpec, values: Sequence[float], base: Sequence[float]) -> float:
    """The difference of two medians as a fraction; below 0 is worse than the base.

    Where lower is better it is that of the reciprocals, as in the analysis.
    """
    ratio = statistics.median(values) / statistics.median(base)
    return (1 / ratio if find_headline(run)[1].higher_is_better is False else ratio) - 1


def _throughput(records: Sequence[Record]) -> tuple[float, ...]:
    """Throughput of the runs that passed, without those for which it could not be computed."""
    return tuple(value for r in records if r["success"] and (value := read_headline(r)) is not None)


def read_headline(record: Record) -> float | None:
    """The metric by which this run's placements are compared; None where it has none."""
    values: dict[str, Any] = {**record}
    config = record["workload_config"]
    return values.get(headline_metric(record["workload"], record["device"], config)) or None


def find_headline(run: RunSpec) -> tuple[str, Metric]:
    """The metric by which a run's placements are compared: its key in records, and what it is."""
    config = asdict(run.command) if run.command is not None else {}
    name = headline_metric(run.workload, run.device.kind, config)
    return name, find_metric(name, config)


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
    """The device of a run: GPU number and its node, or CPU; of a set, how many of them."""
    if len(run.measured) > 1:
        kind = "GPUs" if run.device.kind == "cuda" else "CPU workers"
        return f"{len(run.measured)} {kind}"
    return device_label(
        run.device.kind, run.device.gpu_id, run.device.gpu_numa_node, run.device.gpu_ids
    )


def memory_text(run: RunSpec) -> str:
    """The memory nodes of a run, with the policy unless it is bind; of a set, those of each
    measured worker."""
    if len(run.measured) > 1:
        return join_nodes(node for m in run.measured for node in m.spec.placement.memory_nodes)
    return memory_label(run.placement.memory_nodes, run.placement.policy)


def placement_text(run: RunSpec) -> str:
    """The label of a run's placement, with the CPU affinity unless that is the whole node."""
    placement = run.placement
    return add_affinity(placement.label, placement.affinity, format_cpu_list(placement.cpus))


def cpu_text(run: RunSpec) -> str:
    """The node of a run's CPUs, or those of a set's measured workers."""
    if len(run.measured) > 1:
        return join_nodes(m.spec.placement.numa_node for m in run.measured)
    return node_label(run.placement.numa_node)


def join_nodes(nodes: Iterable[int | None]) -> str:
    """One node for each worker, equal neighbours counted: "0 x2, 1 x2"."""
    counted = [(node, len(list(same))) for node, same in groupby(nodes)]
    return ", ".join(node_label(n) + (f" x{count}" if count > 1 else "") for n, count in counted)


def model_text(run: RunSpec, varied: Sequence[str]) -> str:
    """The model with the settings in which it differs from others of this study."""
    compiled = compile_label(run.test.compile_mode if run.test.compile_model else None)
    parts = [run.vit.name]
    if run.scenario is not None:
        parts.append(run.scenario)
        parts += [f"+ {run.background} load"] if run.background != "none" else []
    for name in varied:
        if name == "compile_model":
            parts.append(compiled)
        else:
            parts.append(setting_label(name, getattr(run.test, name)))
    if run.test.compile_model and "compile_model" not in varied:
        parts.append(compiled)
    return " ".join(parts)


def _measured(run: RunSpec) -> _Measured:
    """What a cell shares with the local cell that it is compared to."""
    # Workers on a GPU are the same wherever they are placed, others where they run.
    who = tuple(
        m.name if m.spec.stream is not None else str(m.spec.device.gpu_id) for m in run.measured
    )
    return run.device, run.vit, run.test, who, run.background


def _group(run: RunSpec, varied: Sequence[str]) -> tuple[str, str]:
    return device_text(run), model_text(run, varied)
