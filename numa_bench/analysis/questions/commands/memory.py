"""Where was the memory of a command, when most of it was in use?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from numa_bench.analysis.questions.base import ColumnSpec, Question
from numa_bench.analysis.read.commands import select_commands
from numa_bench.analysis.stats.tables import join_cell_marks

MEMORY_COLUMNS = (
    "group", "cell", "device_text", "gpu_id", "vit_name", "placement", "placement_text", "n",
    "own_memory_mb", "shares_text", "placement_fraction", "processes", "escaped_threads", "marks",
)  # fmt: skip


def tabulate_memory(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of commands whose memory was seen; columns are `MEMORY_COLUMNS`.

    Sizes are medians over runs, in MB; `placement_fraction` is that of the worst run,
    `escaped_threads` the most of any. Runs that are invalid for their placement count too.
    """
    empty = pd.DataFrame(columns=list(MEMORY_COLUMNS))
    runs = select_commands(frame)
    runs = runs if runs.empty else runs[runs["own_memory_mb"].notna()]
    if runs.empty:
        return empty
    cells = runs.groupby("cell", sort=False)
    table = runs.drop_duplicates("cell").set_index("cell", drop=False)
    table = table.assign(
        n=cells.size(),
        own_memory_mb=cells["own_memory_mb"].median().astype(float),
        shares_text=cells["own_memory_shares"].agg(lambda shares: _describe_shares(list(shares))),
        placement_fraction=cells["placement_fraction"].min(),
        processes=cells["processes"].max(),
        escaped_threads=cells["escaped_threads"].max(),
        marks=join_cell_marks(runs),
    )
    return table.reindex(columns=list(MEMORY_COLUMNS)).reset_index(drop=True)


def _describe_shares(runs: list[Mapping[int, float]]) -> str:
    """The mean share of each node over runs: "node 0: 97 %, node 1: 3 %"."""
    nodes = sorted({node for shares in runs for node in shares})
    means = {n: sum(shares.get(n, 0.0) for shares in runs) / len(runs) for n in nodes}
    return ", ".join(f"node {n}: {100 * share:.0f} %" for n, share in means.items())


QUESTION = Question(
    key="command_memory",
    title="Where was the memory?",
    order=12,
    make_table=tabulate_memory,
    columns=(
        ColumnSpec("device_text", "device"),
        ColumnSpec("vit_name", "command"),
        ColumnSpec("placement", "placement"),
        ColumnSpec("n", "n", "count"),
        ColumnSpec(
            "own_memory_mb",
            "memory (MB)",
            "number",
            tooltip="anonymous and shared memory of all processes at its peak, median over runs",
        ),
        ColumnSpec("shares_text", "on nodes", tooltip="mean over runs"),
        ColumnSpec(
            "placement_fraction",
            "where bound",
            "share",
            tooltip="share on the bound nodes at the peak, in the worst run",
            absent="not bound",
        ),
        ColumnSpec("processes", "processes", "count", tooltip="most at once"),
        ColumnSpec(
            "escaped_threads",
            "escaped threads",
            "count",
            tooltip="threads that could run on other CPUs than those bound, most of any run",
        ),
        ColumnSpec("marks", "marks"),
    ),
    caption="Memory of all processes of the command, by node, as sampled while it ran.",
)
