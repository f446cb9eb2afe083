"""Groups of runs that may be pooled, differences between groups, and excluded runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from numa_bench.analysis.read.runs import Loaded
from numa_bench.marks import KINDS, warning_code
from numa_bench.records import JsonDict

_ENVIRONMENT = (
    *("env_nvidia_driver", "env_torch", "env_kernel", "env_cpu_model", "env_numa_mode"),
    "env_git_commit",
)
GROUP_COLUMNS = (
    "group", "host", "device", "gpu_name", "environment", "profiler", "profiler_capture",
    "shared_host",
    *_ENVIRONMENT, "runs", "passed", "studies",
)  # fmt: skip
EXCLUDED_COLUMNS = (
    "study_dir", "run_id", "status", "error", "group", "vit_name", "model_text", "device_text",
    "placement", "placement_text", "repeat", "stderr_log",
)  # fmt: skip
#: When and how a study was started, not what it ran on.
_NOT_COMPARED = ("command", "id")


def group_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per group: runs of one host, GPU model, environment and profiler.

    `runs` counts all, `passed` those in the statistics, `studies` directories.
    """
    if frame.empty:
        return pd.DataFrame(columns=list(GROUP_COLUMNS))
    members = frame.groupby("group", sort=False)
    table = frame.drop_duplicates("group").set_index("group", drop=False)
    table = table.assign(
        runs=members.size(),
        passed=members["in_statistics"].sum(),
        studies=members["study_dir"].nunique(),
    )
    return table.reindex(columns=list(GROUP_COLUMNS)).reset_index(drop=True)


def difference_table(loaded: Loaded) -> pd.DataFrame:
    """Differences between the groups: `key`, and one column per group; no row without differences.

    Values are texts; "" where a group does not know the key.
    """
    return compare_values(describe_groups(loaded))


def describe_groups(loaded: Loaded) -> dict[str, dict[str, str]]:
    """The properties of each group's machine and software, as texts by dotted key."""
    frame = loaded.frame
    known = {k: v for study in loaded.studies for k, v in study.environments.items()}
    columns: dict[str, dict[str, str]] = {}
    for row in group_table(frame).to_dict("records"):
        values = flatten_environment(known.get(str(row["environment"]), {}))
        # host to shared_host: known even where the summary with the environment is lost.
        values |= {key: _text(row[key]) for key in GROUP_COLUMNS[1:8]}
        # Its version may be known from the records only.
        values |= {key: _text(row[f"env_{key}"]) for key in ("torch",)}
        columns[str(row["group"])] = values
    return columns


def compare_values(columns: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The keys whose values are not the same in all columns."""
    keys = list(dict.fromkeys(key for values in columns.values() for key in values))
    rows = [{"key": key, **{c: v.get(key, "") for c, v in columns.items()}} for key in keys]
    rows = [row for row in rows if len({row[c] for c in columns}) > 1]
    return pd.DataFrame(rows, columns=["key", *columns])


def flatten_environment(environment: JsonDict, prefix: str = "") -> dict[str, str]:
    """An environment as dotted keys and texts, without how the study was started."""
    values: dict[str, str] = {}
    for key, value in environment.items():
        if not prefix and key in _NOT_COMPARED:
            continue
        if key == "gpus" and isinstance(value, list):
            values |= _gpus(value)
        elif isinstance(value, dict):
            values |= flatten_environment(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = _text(value)
    return values


def _gpus(gpus: list[JsonDict]) -> dict[str, str]:
    names = Counter(str(gpu.get("name")) for gpu in gpus)
    return {
        "gpus": ", ".join(f"{count} x {name}" for name, count in names.items()),
        "gpu_uuids": ", ".join(str(gpu.get("uuid")) for gpu in gpus),
    }


def excluded_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that are not in the statistics, with the reason in `error`."""
    if frame.empty:
        return pd.DataFrame(columns=list(EXCLUDED_COLUMNS))
    out = frame[~frame["in_statistics"].astype(bool)]
    table = out.reindex(columns=list(EXCLUDED_COLUMNS)).reset_index(drop=True)
    # A run that passed left no error; it is excluded for having no throughput.
    silent = (table["status"] == "passed") & table["error"].isna()
    table["error"] = table["error"].astype(object).mask(silent, "passed, but has no throughput")
    return table


def describe_simulations(frame: pd.DataFrame) -> list[str]:
    """One sentence for each kind of simulated machine among the runs; empty for measurements."""
    if "env_simulated" not in frame:
        return []
    counts = frame["env_simulated"].value_counts()
    return [
        f"Not a measurement: {count} of {len(frame)} runs are of {reason}."
        for reason, count in counts.items()
    ]


def count_excluded(frame: pd.DataFrame) -> dict[str, int]:
    """How many runs of each status are not in the statistics."""
    counts = excluded_table(frame)["status"].value_counts()
    return {str(status): int(count) for status, count in counts.items()}


def count_warnings(frame: pd.DataFrame) -> dict[str, int]:
    """How many runs have each kind of warning, in the order of `marks.KINDS`; none without runs."""
    counts = Counter(code for some in frame["warnings"] for code in {warning_code(w) for w in some})
    return {code: counts[code] for code in KINDS if counts[code]}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]
