"""Where MLflow's web pages show a study: the address of its runs, with columns worth seeing.

MLflow 3.17 opens a page for generative AI, on which studies have no data. Its table of runs shows
neither parameters nor metrics at first and folds the runs of a parent; it takes another view from a
tag of the experiment, which its button "Share" makes in the same way (tried with 3.17.2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from numa_bench.metric_registry import HEADLINES
from numa_bench.tracking.base import RunView

#: Address of `mlflow ui` with its default port.
LOCAL = "http://127.0.0.1:5000"
VIEW_TAG = "mlflow.sharedViewState."
_HEADLINES = ("throughput_samples_per_s", *HEADLINES.values())
_COLUMNS = (
    *(("metrics", name) for name in _HEADLINES),
    *(("metrics", name) for name in ("latency_p95_ms", "h2d_gb_per_s", "d2h_gb_per_s")),
    *(("params", name) for name in ("vit.name", "gpu_id", "numa_node", "memory_nodes")),
    *(("tags", name) for name in ("placement", "status", "warnings")),
)


def view_key(parent: str) -> str:
    """The name of a study's view; `parent` is the id of its run."""
    return f"numa-bench-{parent[:12]}"


def make_view(parent: str, runs: Sequence[RunView]) -> tuple[str, str]:
    """Name and value of the experiment's tag that shows the runs of a study, best first.

    Sorted by time, which is the default, MLflow would fold them into their parent.
    """
    known = {
        (kind, name)
        for run in runs
        for kind, values in (("metrics", run.metrics), ("params", run.params), ("tags", run.tags))
        for name, value in values.items()
        if value not in (None, [])
    }
    columns = list(dict.fromkeys(column for column in _COLUMNS if column in known))
    headlines = [name for kind, name in columns if kind == "metrics" and name in _HEADLINES]
    state = {
        "selectedColumns": [f"{kind}.`{name}`" for kind, name in columns],
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent}'",
        "orderByKey": f"metrics.`{headlines[0] if headlines else _HEADLINES[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }
    return VIEW_TAG + view_key(parent), json.dumps(state)


def runs_address(base: str, experiment_id: str, key: str | None) -> str:
    """The page of an experiment's runs on the server at `base`, in the view `key` if given."""
    view = f"&viewStateShareKey={key}" if key else ""
    page = f"experiments/{experiment_id}/runs?workflowType=machine_learning{view}"
    return f"{base.rstrip('/')}/#/{page}"
