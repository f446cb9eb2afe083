"""The other questions that a study can answer, each as a table; empty where it does not ask it.

Every table has `group`, `cell`, `device_text`, `gpu_id`, `placement`, `placement_text`, `vit_name`,
`n` and `marks`, and its own columns as said below. Numbers are medians over runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from numa_bench.analysis.stats.contrasts import compare_cells
from numa_bench.analysis.stats.families import (
    group_by_key,
    remove_study_drift,
    select_usable_runs,
    stack_cells,
)
from numa_bench.analysis.stats.tables import TARGET, THROUGHPUT, cell_table
from numa_bench.pcie import GENERATIONS
from numa_bench.records import VitSpec
from numa_bench.workload import vit_flop

_SHARED = ("group", "cell", "device_text", "gpu_id", "placement", "placement_text", "vit_name")
_PLACE = ("group", "device", "gpu_id", "gpu_uuid", "numa_node", "memory_text", "placement")
#: How long is measured, not what: may differ between the points of a series.
_EFFORT = (
    "test_num_samples", "test_time_budget_s", "test_memory_size_mb", "test_warmup_samples",
    "test_warmup_budget_s", "test_timeout_s",
)  # fmt: skip
_STAGES = ("h2d_ms", "compute_ms", "d2h_ms")
POINT_COLUMNS = (
    *_SHARED, "model_text", "depth", "dim", "patch_size", "batch_size", "image_size",
    "pipeline_depth", "n", "median_samples_per_s", "low", "high", "latency_p50_ms", *_STAGES,
    "gflop_per_sample", "tflop_per_s", "copy_share", "bound", "overlap_efficiency", "marks",
)  # fmt: skip
COMPILE_COLUMNS = (
    *_SHARED, "compile_mode", "n", "n_base", "eager_samples_per_s", "compiled_samples_per_s",
    "speedup", "low", "high", "p_holm", "claimed", "compile_s", "break_even_samples", "text",
    "marks",
)  # fmt: skip
BANDWIDTH_COLUMNS = (
    *_SHARED, "gpu_name", "gpu_numa_node", "numa_node", "memory_node", "n", "h2d_gb_per_s",
    "d2h_gb_per_s", "link", "link_gb_per_s", "h2d_share", "d2h_share", "marks",
)  # fmt: skip


def point_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell with its throughput, stages and arithmetic; columns are `POINT_COLUMNS`.

    `tflop_per_s` is what the model does at this throughput, by `flops.vit_flop`; `copy_share` the
    copies' share of a batch's stage times; `bound` the stage that limits: "transfer" or "compute".
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    if runs.empty:
        return pd.DataFrame(columns=list(POINT_COLUMNS))
    cells = cell_table(runs).rename(columns={"median": "median_samples_per_s"}).set_index("cell")
    first = runs.drop_duplicates("cell").set_index("cell")
    medians = runs.groupby("cell")[[*_STAGES, "latency_p50_ms", "overlap_efficiency"]].median()
    table = cells.join(medians)
    for name in ("depth", "dim", "patch_size"):
        table[name] = first[f"vit_{name}"]
    for name in ("batch_size", "image_size", "pipeline_depth"):
        table[name] = first[f"test_{name}"]
    table["gflop_per_sample"] = [_gflop(row) for row in first.loc[table.index].to_dict("records")]
    rate = table["gflop_per_sample"] * table["median_samples_per_s"] / 1e3
    table["tflop_per_s"] = rate.where(table["depth"] > 0)
    copies = table["h2d_ms"] + table["d2h_ms"]
    table["copy_share"] = copies / (copies + table["compute_ms"])
    # On a GPU the stages overlap, and the slowest alone sets the pace; on the CPU they add up.
    gpu = first["device"].loc[table.index] == "cuda"
    transfer = copies.where(~gpu, table[["h2d_ms", "d2h_ms"]].max(axis=1))
    table["bound"] = np.where(transfer > table["compute_ms"], "transfer", "compute")
    table.loc[table[list(_STAGES)].isna().any(axis=1), "bound"] = None
    return table.reset_index().reindex(columns=list(POINT_COLUMNS))


def scaling_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Throughput over depth and over width: `points` with `series` ("depth at dim 512") and
    `turns`, where the series turns from transfer bound to compute bound ("" where it does not).

    A series is two or more values of one size with everything else equal.
    """
    found = []
    for size, other in (("depth", "dim"), ("dim", "depth")):
        free = (f"vit_{size}", "vit_name", "vit_heads", "vit_dim_head", "vit_mlp_dim")
        table = _series(frame[frame["vit_depth"] > 0] if len(frame) else frame, size, free)
        if not table.empty:
            table["series"] = f"{size} at {other} " + table[other].astype(str)
            table["varied"] = size
            found.append(_with_turns(table, size))
    if not found:
        return pd.DataFrame(columns=[*POINT_COLUMNS, "series", "varied", "turns"])
    return pd.concat(found, ignore_index=True)


def batch_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Throughput and latency over `batch_size`, all else equal: the columns of `points`."""
    return _series(frame, "batch_size", ("test_batch_size",))


def resolution_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The same over `image_size`. The batch size may differ, as large images need smaller ones."""
    return _series(frame, "image_size", ("test_image_size", "test_batch_size"))


def pipeline_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The same over `pipeline_depth`, with `overlap_efficiency`."""
    return _series(frame, "pipeline_depth", ("test_pipeline_depth",))


def compile_table(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compiled against uncompiled, all else equal; columns are `COMPILE_COLUMNS`.

    `speedup` is compiled over eager with interval and corrected p-value as in `stats`, the family
    being these comparisons of one group. `break_even_samples` is how many samples must be computed
    until compilation has paid for itself; NaN: never, or it was not measured.
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    if runs.empty or runs["compile_model"].nunique() < 2:
        return pd.DataFrame(columns=list(COMPILE_COLUMNS))
    free = ("vit_name", "test_compile_model", "test_compile_mode")
    found = []
    for _, members in runs.assign(series=_keys(runs, free)).groupby("group", sort=False):
        rows = []
        for _, series in members.groupby("series", sort=False):
            cells = series.drop_duplicates("cell").sort_values("compile_model", kind="stable")
            if cells["compile_model"].nunique() == 2:
                rows.append([str(cell) for cell in cells["cell"]])
        if rows:
            found.append(_compiled(members, rows, seed))
    if not found:
        return pd.DataFrame(columns=list(COMPILE_COLUMNS))
    return pd.concat(found, ignore_index=True)


def bandwidth_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Copy bandwidth of every GPU from and to every node; columns are `BANDWIDTH_COLUMNS`.

    Of each GPU the model with the least arithmetic is taken, at best no model at all. The link's
    limit is per direction and before packet headers, from the generation and width that NVML
    told; NaN where it did not.
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    runs = runs[(runs["device"] == "cuda") & (runs["h2d_gb_per_s"] > 0)] if len(runs) else runs
    if runs.empty:
        return pd.DataFrame(columns=list(BANDWIDTH_COLUMNS))
    work = runs["vit_depth"] * runs["vit_dim"] ** 2
    runs = runs.assign(work=work).sort_values("work", kind="stable")
    least = runs.groupby(["group", "gpu_id"])["setting"].transform("first")
    runs = runs[runs["setting"] == least].sort_index()
    names = ["monitor_pcie_max_generation_median", "monitor_pcie_max_width_median"]
    runs = runs.assign(**{name: np.nan for name in names if name not in runs})
    rates = ["h2d_gb_per_s", "d2h_gb_per_s"]
    cells = runs.groupby("cell", sort=False)
    extra = ["gpu_name", "gpu_numa_node", "numa_node", "memory_node"]
    table = runs.drop_duplicates("cell").set_index("cell", drop=False)[[*_SHARED, *extra]]
    table = table.join(cells[rates].median())
    links = [_link(*pair) for pair in cells[names].max().loc[table.index].to_numpy()]
    table["link"], table["link_gb_per_s"] = [a for a, _ in links], [b for _, b in links]
    table["n"], table["marks"] = cells.size(), _marks(runs)
    for rate in ("h2d", "d2h"):
        table[f"{rate}_share"] = table[f"{rate}_gb_per_s"] / table["link_gb_per_s"]
    table = table.reindex(columns=list(BANDWIDTH_COLUMNS)).sort_values(
        ["group", "gpu_id", "numa_node", "memory_node"], na_position="last"
    )
    return table.reset_index(drop=True)


def break_even(eager: float, compiled: float, compile_s: float) -> float:
    """Samples after which compilation has paid: compile_s / (1 / eager - 1 / compiled).

    Throughputs in samples/s. NaN (never) where compiled is not faster.
    """
    return compile_s / (1 / eager - 1 / compiled) if compiled > eager > 0 else float("nan")


def _series(frame: pd.DataFrame, size: str, free: tuple[str, ...]) -> pd.DataFrame:
    """The points of every series along one size, by series and size."""
    if frame.empty:
        return pd.DataFrame(columns=list(POINT_COLUMNS))
    table = point_table(frame)
    keys = pd.Series(_keys(frame, free), frame["cell"]).groupby(level=0).first()
    table["key"] = table["cell"].map(keys)
    several = table.groupby("key")[size].transform("nunique") > 1
    table = table[several].sort_values(["gpu_id", "key", size], kind="stable", na_position="last")
    return table.reindex(columns=list(POINT_COLUMNS)).reset_index(drop=True)


def _keys(frame: pd.DataFrame, free: tuple[str, ...]) -> list[str]:
    """What must be equal along a series, as text for each run."""
    settings = [c for c in map(str, frame) if c.startswith(("vit_", "test_"))]
    fixed = [*_PLACE, *(c for c in settings if c not in (*free, "vit_name", *_EFFORT))]
    return [repr(row) for row in frame[fixed].astype(object).to_numpy().tolist()]


def _with_turns(table: pd.DataFrame, size: str) -> pd.DataFrame:
    """A sentence for each series that turns from transfer bound to compute bound."""
    place = ["group", "device_text", "placement_text", "series", "batch_size", "image_size"]
    table["turns"] = ""
    for _, rows in table.groupby(place, sort=False, dropna=False):
        ordered = rows.sort_values(size)
        transfer = ordered.loc[ordered["bound"] == "transfer", size]
        compute = ordered.loc[ordered["bound"] == "compute", size]
        if len(transfer) and len(compute) and transfer.max() < compute.min():
            text = (
                f"transfer bound up to {size} {transfer.max()}, compute bound from {compute.min()}"
            )
            table.loc[rows.index, "turns"] = text
    return table


def _compiled(members: pd.DataFrame, rows: list[list[str]], seed: int) -> pd.DataFrame:
    logs, spent = remove_study_drift(members, THROUGHPUT)
    by_cell = group_by_key(logs, members["cell"])
    cells, values = stack_cells(rows, by_cell)
    found = compare_cells(values, spent, TARGET, seed)
    counts = np.isfinite(values).sum(axis=-1)
    medians = members.groupby("cell")[[THROUGHPUT, "compile_s"]].median().to_dict("index")
    first = members.drop_duplicates("cell").set_index("cell", drop=False)
    marks = _marks(members)
    table = []
    for i, row in enumerate(cells):
        for j, cell in enumerate(row[1:], 1):
            if not cell:
                continue
            eager, rate = (float(medians[c][THROUGHPUT]) for c in (row[0], cell))
            compile_s = float(medians[cell]["compile_s"])
            difference = found.difference[i, j]
            pays = break_even(eager, rate, compile_s)
            told = {
                "compile_mode": first.loc[cell, "compile_mode"],
                "n": counts[i, j],
                "n_base": counts[i, 0],
                "eager_samples_per_s": eager,
                "compiled_samples_per_s": rate,
                "speedup": np.exp(difference) if np.isfinite(difference) else rate / eager,
                "low": np.exp(found.low[i, j]),
                "high": np.exp(found.high[i, j]),
                "p_holm": found.p_holm[i, j],
                "claimed": found.claimed[i, j],
                "compile_s": compile_s,
                "break_even_samples": pays,
                "text": _pays_text(rate > eager, pays),
                "marks": marks.get(cell, ""),
            }
            table.append({**{k: first.loc[cell, k] for k in _SHARED}, **told})
    return pd.DataFrame(table, columns=list(COMPILE_COLUMNS))


def _pays_text(faster: bool, pays: float) -> str:
    if np.isfinite(pays):
        return f"pays from {pays:,.0f} samples on"
    return "compile time was not measured" if faster else "never pays: not faster"


def _link(generation: float, width: float) -> tuple[str | None, float]:
    """A link's name and its GB/s per direction; None and NaN where it is not known."""
    if not (generation in GENERATIONS and width > 0):
        return None, float("nan")
    rate, kept = GENERATIONS[int(generation)]
    return f"PCIe {generation:.0f}.0 x{width:.0f}", rate * kept * width / 8


def _gflop(row: Mapping[Any, Any]) -> float:
    sizes = {f: int(row[f"vit_{f}"]) for f in VitSpec.__dataclass_fields__ if f != "name"}
    image = {f: int(row[f"test_{f}"]) for f in ("image_size", "channels")}
    return vit_flop(**sizes, **image) / 1e9


def _marks(runs: pd.DataFrame) -> pd.Series[str]:
    return runs.groupby("cell")["marks"].agg(lambda m: "".join(sorted(set("".join(m)))))
