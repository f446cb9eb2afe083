"""Figures of nvbandwidth, from the JSON that `nvbandwidth -j` writes.

    {"nvbandwidth": {"testcases": [{"name": "host_to_device_memcpy_ce", "status": "Passed",
                                    "bandwidth_matrix": [["55.3", "55.4"]], "sum": 110.7}, ...]}}

(NVIDIA/nvbandwidth, json_output.cpp.) Values are texts in GB/s of 1e9 bytes, "N/A" where there is
none; the columns of tests between host and device are devices in CUDA's order, the rows are the
host. Each test binds the host to the CPUs next to the device, so it is compared with local.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from numa_bench.errors import ConfigError
from numa_bench.jsonio import read_json

#: Tests between host and device with copy engines, and the metric of ours that each is beside.
#: A bidirectional test reports the named direction while the other one is busy.
TESTS = {
    "host_to_device_memcpy_ce": "h2d_gb_per_s",
    "device_to_host_memcpy_ce": "d2h_gb_per_s",
    "host_to_device_bidirectional_memcpy_ce": "h2d_both_gb_per_s",
    "device_to_host_bidirectional_memcpy_ce": "d2h_both_gb_per_s",
}
NVBANDWIDTH_COLUMNS = ("gpu_id", *TESTS.values())
KEY = "nvbandwidth"


def read_nvbandwidth(path: str) -> pd.DataFrame:
    """One row per GPU, columns `NVBANDWIDTH_COLUMNS`, NaN for tests that were not run.

    Raises ConfigError where the file cannot be read or has none of `TESTS`.
    """
    try:
        content = read_json(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(KEY, path, f"cannot be read: {error}") from error
    rates: dict[int, dict[str, float]] = {}
    for name, gpu, value in _values(content):
        rates.setdefault(gpu, {})[TESTS[name]] = value
    if not rates:
        raise ConfigError(
            KEY,
            path,
            f"has no figures of {', '.join(TESTS)}; write it with nvbandwidth -j -t NAME ...",
        )
    rows = [{"gpu_id": gpu, **found} for gpu, found in sorted(rates.items())]
    return pd.DataFrame(rows, columns=list(NVBANDWIDTH_COLUMNS))


def _values(content: Any) -> Iterator[tuple[str, int, float]]:
    """Test, GPU and GB/s of everything in the file that is a figure."""
    top = content.get("nvbandwidth") if isinstance(content, dict) else None
    cases = top.get("testcases") if isinstance(top, dict) else None
    for case in cases if isinstance(cases, list) else ():
        name = case.get("name") if isinstance(case, dict) else None
        matrix = case.get("bandwidth_matrix") if isinstance(case, dict) else None
        if name not in TESTS or not isinstance(matrix, list) or not matrix:
            continue
        for gpu, text in enumerate(matrix[0] if isinstance(matrix[0], list) else ()):
            value = _number(text)
            if math.isfinite(value):
                yield name, gpu, value


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):  # "N/A"
        return math.nan
