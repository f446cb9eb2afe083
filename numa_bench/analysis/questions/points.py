"""Series of cells that differ in one setting: throughput, stage times and arithmetic over it.

The tables of most questions. Each has `group`, `cell`, `device_text`, `gpu_id`, `placement`,
`placement_text`, `vit_name`, `n` and `marks`; numbers are medians over runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from numa_bench.analysis.read.model_texts import EFFORT, describe_variants
from numa_bench.analysis.stats.bounds import STAGES, find_bounds
from numa_bench.analysis.stats.families import select_usable_runs
from numa_bench.analysis.stats.tables import THROUGHPUT, cell_table
from numa_bench.records import VIT_SIZES
from numa_bench.records.workload import vit_flop

SHARED_COLUMNS = (
    "group", "cell", "device_text", "gpu_id", "placement", "placement_text", "vit_name",
)  # fmt: skip
_PLACE = ("group", "device", "gpu_id", "gpu_uuid", "numa_node", "memory_text", "placement")
#: They may differ between the points of a series.
_EFFORT = tuple(f"test_{name}" for name in EFFORT)
#: Medians over the runs of a cell.
_MEDIANS = (
    "host_ms", *STAGES, "host_pipelined_ms", "h2d_pipelined_ms", "compute_pipelined_ms",
    "d2h_pipelined_ms", "latency_p50_ms",
    "overlap_efficiency", "host_submit_fraction", "host_wait_fraction", "busiest_stage_fraction",
)  # fmt: skip
POINT_COLUMNS = (
    *SHARED_COLUMNS, "variant", "variant_text", "model_text", "depth", "dim", "patch_size",
    "batch_size",
    "image_size", "pipeline_depth", "n", "median_samples_per_s", "low", "high", *_MEDIANS,
    "gflop_per_sample", "tflop_per_s", "copy_share", "bound", "predicted_bound", "marks",
)  # fmt: skip


def tabulate_points(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate throughput, stage times and arithmetic by cell; columns are `POINT_COLUMNS`.

    `tflop_per_s` is the model's FLOP, as the worker counted them or, of a ViT, by
    `workload.vit_flop`, at this throughput; `copy_share` the copies' share of a batch's copies and
    forward pass; `bound` what limits: "transfer", "compute", "host work" (all three: the longest
    stage) or, where half of the runs or more are marked so, "host"; `predicted_bound` the same as
    planned.
    """
    runs = select_usable_runs(frame, THROUGHPUT)
    if runs.empty:
        return pd.DataFrame(columns=list(POINT_COLUMNS))
    cells = cell_table(runs).rename(columns={"median": "median_samples_per_s"}).set_index("cell")
    first = runs.drop_duplicates("cell").set_index("cell")
    # cell_table has some of these medians already, and join refuses to have them twice.
    table = cells.drop(columns=[name for name in _MEDIANS if name in cells])
    table = table.join(runs.groupby("cell")[list(_MEDIANS)].median())
    for name in ("depth", "dim", "patch_size"):
        table[name] = first[f"vit_{name}"]
    for name in ("batch_size", "image_size", "pipeline_depth"):
        table[name] = first[f"test_{name}"]
    table["gflop_per_sample"] = [_gflop(row) for row in first.loc[table.index].to_dict("records")]
    rate = table["gflop_per_sample"] * table["median_samples_per_s"] / 1e3
    # A model without arithmetic only copies: its rate of arithmetic would mean nothing.
    table["tflop_per_s"] = rate.where(table["gflop_per_sample"] > 0)
    copies = table["h2d_ms"] + table["d2h_ms"]
    table["copy_share"] = copies / (copies + table["compute_ms"])
    table["bound"] = find_bounds(runs).reindex(table.index)
    # The plan says link for what is called transfer here.
    table["predicted_bound"] = (
        first["predicted_bound"].map({"link": "transfer"}).fillna(first["predicted_bound"])
    )
    # make_series fills them in for the questions that need them.
    table["variant"], table["variant_text"] = "", table["vit_name"]
    return table.reset_index().reindex(columns=list(POINT_COLUMNS))


def _gflop(row: Mapping[Any, Any]) -> float:
    if pd.notna(row["flop_per_sample"]):
        return float(row["flop_per_sample"]) / 1e9
    needed = [f"vit_{name}" for name in VIT_SIZES] + ["test_image_size", "test_channels"]
    # No vision transformer, or a record that lacks some of its sizes.
    if any(pd.isna(row[key]) for key in needed):
        return float("nan")
    sizes = {name: int(row[f"vit_{name}"]) for name in VIT_SIZES}
    image = {f: int(row[f"test_{f}"]) for f in ("image_size", "channels")}
    return vit_flop(**sizes, **image) / 1e9


def make_series(frame: pd.DataFrame, size: str, free: tuple[str, ...]) -> pd.DataFrame:
    """The points of every series along one size, sorted by series and size.

    A series is two or more values of `size`, a column of `POINT_COLUMNS`, with everything else
    equal but the settings named in `free`, columns of the table of runs. `variant` has the
    settings in which series differ, `variant_text` the model's name before them.
    """
    if frame.empty:
        return pd.DataFrame(columns=list(POINT_COLUMNS))
    table = tabulate_points(frame)
    keys = pd.Series(build_series_keys(frame, free), frame["cell"]).groupby(level=0).first()
    table["key"] = table["cell"].map(keys)
    several = table.groupby("key")[size].transform("nunique") > 1
    table = table[several].sort_values(["gpu_id", "key", size], kind="stable", na_position="last")
    variants = describe_variants(frame[frame["cell"].isin(table["cell"])], free)
    table["variant"] = table["cell"].map(variants).astype(str)
    table["variant_text"] = (table["vit_name"].astype(str) + " " + table["variant"]).str.strip()
    return table.reindex(columns=list(POINT_COLUMNS)).reset_index(drop=True)


def build_series_keys(frame: pd.DataFrame, free: tuple[str, ...]) -> list[str]:
    """One text per run, equal for the runs of one series; `free` as in `make_series`."""
    settings = [c for c in map(str, frame) if c.startswith(("vit_", "test_"))]
    # A name only stands for sizes that are columns themselves.
    fixed = [*_PLACE, *(c for c in settings if c not in (*free, "vit_name", *_EFFORT))]
    return [repr(row) for row in frame[fixed].astype(object).to_numpy().tolist()]
