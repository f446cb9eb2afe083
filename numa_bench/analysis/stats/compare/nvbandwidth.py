"""Local copies of a bandwidth study beside those of nvbandwidth. Pure."""

from __future__ import annotations

import pandas as pd

from numa_bench.records import BANDWIDTH

#: Metric of ours, figure of nvbandwidth, what both are called.
_PAIRS = (
    ("h2d_gb_per_s", ("h2d_gb_per_s",), "H2D"),
    ("d2h_gb_per_s", ("d2h_gb_per_s",), "D2H"),
    ("duplex_gb_per_s", ("h2d_both_gb_per_s", "d2h_both_gb_per_s"), "both at once"),
)
COMPARED_COLUMNS = ("device_text", "copies", "n", "ours", "nvbandwidth", "difference")


def compare_nvbandwidth(frame: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """One row per GPU and kind of copy, columns `COMPARED_COLUMNS`, in GB/s.

    `ours` is the median over local runs; `difference` is ours over theirs, minus 1. For both
    directions at once theirs is the sum of its two bidirectional tests. GPUs are matched by number,
    which is the same where nvbandwidth ran with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    rows = []
    runs = frame[
        (frame["workload"] == BANDWIDTH)
        & frame["in_statistics"].astype(bool)
        & (frame["placement"] == "local")
        & (frame["device"] == "cuda")
    ]
    for gpu, local in runs.groupby("gpu_id"):
        match = theirs[theirs["gpu_id"] == gpu]
        if match.empty:
            continue
        for metric, names, text in _PAIRS:
            reference = float(match[list(names)].sum(axis=1, skipna=False).iloc[0])
            ours = local[metric].dropna()
            if len(ours) and reference > 0:
                value = float(ours.median())
                device = str(local["device_text"].iloc[0])
                difference = value / reference - 1
                rows.append((device, text, len(ours), value, reference, difference))
    return pd.DataFrame(rows, columns=list(COMPARED_COLUMNS))
