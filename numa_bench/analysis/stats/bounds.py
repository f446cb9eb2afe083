"""What limits each cell's throughput: the link, compute, or the host. Pure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from numa_bench.analysis.stats.tables import find_host_bound

STAGES = ("h2d_ms", "compute_ms", "d2h_ms")


def find_bounds(runs: pd.DataFrame) -> pd.Series[str]:
    """What limits each cell, by cell: "transfer", "compute", "host work" or "host".

    The longest stage, from medians over the runs in the statistics; "host" where half of them or
    more are marked so; None where stages were not timed.
    """
    runs = runs[runs["in_statistics"].astype(bool)]
    stages = [name for name in ("host_ms", *STAGES) if name in runs]
    table = runs.groupby("cell", sort=False)[stages].median().reindex(columns=["host_ms", *STAGES])
    copies = table["h2d_ms"] + table["d2h_ms"]
    # On a GPU the stages overlap, and the slowest alone sets the pace; on the CPU they add up.
    gpu = runs.drop_duplicates("cell").set_index("cell")["device"].loc[table.index] == "cuda"
    transfer = copies.where(~gpu, table[["h2d_ms", "d2h_ms"]].max(axis=1))
    bound = pd.Series(
        np.where(transfer > table["compute_ms"], "transfer", "compute"), table.index, dtype=object
    )
    longest = np.maximum(transfer, table["compute_ms"])
    bound[table["host_ms"] > longest] = "host work"
    bound[table[list(STAGES)].isna().any(axis=1)] = None
    # Last: while the GPU waits for the host, its stage times do not say what limits.
    bound[find_host_bound(runs).reindex(table.index).fillna(False).astype(bool)] = "host"
    return bound
