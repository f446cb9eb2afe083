"""Tables of pooled effects and loaded studies, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from numa_bench.analysis.read.runs import Loaded
from numa_bench.analysis.read.studies import Study
from numa_bench.machine.model import Topology
from tests.fake_scenarios import server8
from tests.machines import server

GROUP = "g1"
TARGET = 0.02
DIRECTORY = "outputs/numa_study/1"


def two_sockets() -> Topology:
    """Two nodes (0 and 2) in two sockets, eight GPUs."""
    return server()


def four_per_two_sockets() -> Topology:
    """Nodes 0 and 1 in one socket, 2 and 3 in the other, two GPUs at each."""
    plain = server8()
    return replace(plain, nodes=tuple(replace(n, socket=n.id // 2) for n in plain.nodes))


def make_effect(placement: str, ratio: float, **changes: Any) -> dict[str, Any]:
    """A row of the pooled table: a claimed effect of the transfer-bound models, unless changed."""
    half = changes.pop("half", 0.004)
    models = changes.pop("models", ("vit32x0", "vit32x2x128"))
    return {
        "group": GROUP, "level": "bound", "models": models, "model_text": ", ".join(models),
        "bound": "transfer", "placement": placement, "gpus": 8, "repeats": 5, "ratio": ratio,
        "low": ratio - half, "high": ratio + half, "p_value": 0.001, "p_holm": 0.001,
        "claimed": True, "equal": False, "detectable": 0.006, "repeats_needed": 5,
        "leaning": "", "note": "", **changes,
    }  # fmt: skip


def make_equal(placement: str, **changes: Any) -> dict[str, Any]:
    """A row whose interval is within the target."""
    return make_effect(placement, 0.999, **{"claimed": False, "equal": True, **changes})


def make_unknown(placement: str, **changes: Any) -> dict[str, Any]:
    """A row of too few runs."""
    unsure = {"claimed": False, "detectable": 0.09, "repeats_needed": 12, "half": 0.05}
    return make_effect(placement, 0.99, **{**unsure, **changes})


def make_table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def make_run(gpu: int | None, placement: str = "local", **changes: Any) -> dict[str, Any]:
    """A row of the table of runs, with the columns that advice reads."""
    return {
        "group": GROUP, "host": "gpu-server-1", "study_dir": DIRECTORY,
        "device": "cpu" if gpu is None else "cuda", "gpu_id": gpu,
        "gpu_ids": [] if gpu is None else [gpu],
        "gpu_name": None if gpu is None else "NVIDIA H100 80GB HBM3", "placement": placement,
        "numa_node": 0, "memory_nodes": [0], "memory_policy": "bind", "cpus": "0-47",
        "cpu_affinity": "node", "scenario": None, "workers": [], **changes,
    }  # fmt: skip


def make_study(topology: Topology | None, directory: str = DIRECTORY) -> Study:
    return Study(
        directory=directory, name="numa_study", recorded=1, counts={}, started="2026-01-31",
        topology=None if topology is None else topology.to_dict(),
    )  # fmt: skip


def make_loaded(topology: Topology | None, runs: list[dict[str, Any]] | None = None) -> Loaded:
    """A study of all GPUs of a machine, or of its CPUs without any; or of the runs given."""
    gpus: list[int | None] = [0]
    if topology is not None:
        gpus = [gpu.index for gpu in topology.gpus] or [None]
    rows = runs if runs is not None else [make_run(gpu) for gpu in gpus]
    return Loaded(pd.DataFrame(rows), [], [make_study(topology)])
