"""From the table of runs to families of comparisons, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.stats.class_noise import Classes
from numa_bench.analysis.stats.drift import remove_drift
from numa_bench.analysis.stats.levels import fit_levels
from numa_bench.analysis.stats.robust import Array
from numa_bench.labels import find_base_label

#: Between the names of a cell and of a study; neither has a line break.
_OF_STUDY = "\n"
#: The column of the metric by which a run's placements are compared.
HEADLINE = "headline_value"
#: What decides which cells are compared.
_COMPARED = ("setting", "cell", "placement", "numa_node", "memory_policy", "device")


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together: those of one group.

    `values` are logarithms without drift, shape (settings, placements, runs), NaN where there is
    no run. `cells` names each cell, "" where there is none; column 0 is the base. `classes`
    numbers the placements of cells, shape (settings, placements): their noise may differ. `spent`
    is the cost of removing drift, in degrees of freedom per run.
    """

    group: str
    cells: list[list[str]]
    values: Array
    classes: Classes
    spent: float


def select_usable_runs(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs that are in the statistics and have this metric, above 0."""
    if frame.empty:
        return frame
    return frame.loc[frame["in_statistics"].astype(bool) & (frame[metric] > 0)]


def remove_study_drift(
    runs: pd.DataFrame, metric: str, *, levels: bool = True
) -> tuple[pd.Series[float], float]:
    """Logarithms of a metric without each study's drift, by run.

    The metric by which placements are compared enters as its reciprocal where lower is better, as
    in the ratios of SPEC CPU (reference time over measured time), so that a difference below 0 is
    worse whatever is measured. `levels`: pooled studies of a group that share cells lose their
    different levels too (see `fit_levels`). The second value is the cost in degrees of freedom per
    run (see `remove_drift`).
    """
    logs = np.log(runs[metric].to_numpy(dtype=float))
    values = pd.Series(logs * find_direction(runs, metric), index=runs.index)
    cost = 0.0
    for _, study in runs.groupby(["group", "study_dir"], sort=False):
        # One value per cell and block; several runs of one block are averaged for the fit only.
        table = (
            values[study.index]
            .groupby([study["cell"], study["repeat"].astype(int)])
            .mean()
            .unstack()
        )
        still, spent = remove_drift(table.to_numpy(dtype=float))
        # Each run moves by what the fit took off its cell in its block.
        moved = pd.DataFrame(still - table.to_numpy(), table.index, table.columns).stack()
        keys = pd.MultiIndex.from_arrays([study["cell"], study["repeat"].astype(int)])
        values[study.index] += moved.reindex(keys).to_numpy()
        # Weighted by runs: the studies of a group differ in size.
        cost += spent * len(study)
    if levels:
        for _, members in runs.groupby("group", sort=False):
            if members["study_dir"].nunique() > 1:
                removed, spent = _study_levels(members, values[members.index])
                values[members.index] -= removed
                cost += spent
    return values, cost / max(1, len(runs))


def find_direction(runs: pd.DataFrame, metric: str) -> Array:
    """1 for each run whose value counts as it is, -1 where its reciprocal counts.

    That is where `metric` is the run's headline, and lower is better. Other metrics, such as a
    latency beside the throughput, are shown as they are.
    """
    if "lower_is_better" not in runs:
        return np.ones(len(runs))
    compared = (runs["headline"] == metric) | (metric == HEADLINE)
    return np.where(compared & runs["lower_is_better"].astype(bool), -1.0, 1.0)


def _study_levels(members: pd.DataFrame, values: pd.Series[float]) -> tuple[pd.Series[float], int]:
    """The level of each run's study, and the cost in degrees of freedom."""
    # Medians: the level of a study does not follow a slow run.
    centres = values.groupby([members["cell"], members["study_dir"]]).median().unstack()
    levels, spent = fit_levels(centres.to_numpy(dtype=float))
    return members["study_dir"].map(dict(zip(centres.columns, levels, strict=True))), spent


def build_families(frame: pd.DataFrame, metric: str) -> Iterator[Family]:
    """Every group's comparisons with local. Settings without a local cell are left out."""
    runs = select_usable_runs(frame, metric)
    for group, members in runs.groupby("group", sort=False):
        rows = list_comparisons(members)
        if rows:
            values, spent = remove_study_drift(members, metric)
            cells, stack = _stack_comparisons(rows, members, values)
            labels = members.drop_duplicates("cell").set_index("cell")["placement"].to_dict()
            yield Family(str(group), cells, stack, number_classes(cells, labels), spent)


def number_classes(cells: list[list[str]], labels: Mapping[Any, Any]) -> Classes:
    """The cells numbered by their label; cells that do not exist count as the base."""
    known = {label: i for i, label in enumerate(dict.fromkeys(labels.values()))}
    return np.array([[known[labels[cell or row[0]]] for cell in row] for row in cells])


def _stack_comparisons(
    rows: list[list[str]], members: pd.DataFrame, values: pd.Series[float]
) -> tuple[list[list[str]], Array]:
    """Rows of cells, padded, and their values; each comparison has runs of common studies only.

    The level of a study that has only one of two cells would be part of their difference, or of its
    error. Cells without a common study are compared with all their runs.
    """
    runs = group_by_key(values, members["cell"] + _OF_STUDY + members["study_dir"])
    studies: dict[str, set[str]] = {}
    for key in runs:
        cell, _, study = key.rpartition(_OF_STUDY)
        studies.setdefault(cell, set()).add(study)
    names: list[list[str]] = []
    chosen: list[list[Array]] = []
    for base, *others in rows:
        together: dict[frozenset[str], list[str]] = {}
        for other in others:
            common = studies[base] & studies[other] or studies[base] | studies[other]
            together.setdefault(frozenset(common), []).append(other)
        for of, cells in together.items():
            names.append([base, *cells])
            parts = [[runs[c + _OF_STUDY + s] for s in sorted(of & studies[c])] for c in names[-1]]
            chosen.append([np.concatenate(part) for part in parts])
    by_place = {f"{i} {j}": v for i, row in enumerate(chosen) for j, v in enumerate(row)}
    places = [[f"{i} {j}" for j in range(len(row))] for i, row in enumerate(names)]
    padded, stack = stack_cells(places, by_place)
    width = len(padded[0])
    return [row + [""] * (width - len(row)) for row in names], stack


def group_by_key(values: pd.Series[float], keys: pd.Series[str]) -> dict[str, Array]:
    """The values of the runs of each key."""
    return {str(k): np.asarray(v, dtype=np.float64) for k, v in values.groupby(keys)}


def stack_cells(rows: list[list[str]], by_cell: dict[str, Array]) -> tuple[list[list[str]], Array]:
    """Rows of cells padded to one length, and their values as one array."""
    width = max(len(row) for row in rows)
    cells = [row + [""] * (width - len(row)) for row in rows]
    runs = max(len(by_cell[c]) for row in rows for c in row)
    values = np.full((len(cells), width, runs), np.nan)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            if cell:
                values[i, j, : len(by_cell[cell])] = by_cell[cell]
    return cells, values


def list_comparisons(members: pd.DataFrame) -> list[list[str]]:
    """The cells of each setting as rows: a local cell, followed by those compared to it.

    With a GPU there is one local cell per memory policy. Without one every node has its own, and a
    placement is compared to the local cell of the node its threads run on. Local cells with another
    CPU affinity than that of the base (`labels.find_base_label`) are compared to it as well.
    """
    settings: dict[str, list[dict[Any, Any]]] = {}
    # Few columns, and no table per setting: there may be thousands.
    for cell in members.drop_duplicates("cell")[list(_COMPARED)].to_dict("records"):
        settings.setdefault(str(cell["setting"]), []).append(cell)
    return [row for cells in settings.values() for row in _list_rows(cells)]


def _list_rows(cells: list[dict[Any, Any]]) -> list[list[str]]:
    home = find_base_label(cell["placement"] for cell in cells)
    local = [cell for cell in cells if cell["placement"] == home]
    rows: dict[str, list[str]] = {}
    for other in cells:
        if other["placement"] != home and local:
            base = _choose_base(other, local)
            rows.setdefault(base, [base]).append(str(other["cell"]))
    return list(rows.values())


def _choose_base(other: Mapping[Any, Any], local: list[dict[Any, Any]]) -> str:
    """The local cell that a cell is compared to.

    One with the same memory policy is preferred; on the CPU the same node matters more.
    """
    by_node = other["device"] == "cpu" and not pd.isna(other["numa_node"])

    def rank(cell: Mapping[Any, Any]) -> int:
        # Weight 2: another node is worse than another policy.
        far = 2 * bool(cell["numa_node"] != other["numa_node"]) if by_node else 0
        return far + bool(cell["memory_policy"] != other["memory_policy"])

    # Of equally near cells the first one.
    return str(min(local, key=rank)["cell"])
