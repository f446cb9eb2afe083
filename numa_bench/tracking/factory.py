"""From settings to trackers, without importing their packages."""

from __future__ import annotations

import os
from pathlib import Path

from numa_bench.config.schemas.output import TrackingConfig
from numa_bench.tracking.base import Tracker
from numa_bench.tracking.mlflow import MlflowTracker
from numa_bench.tracking.tensorboard import TensorboardTracker
from numa_bench.tracking.wandb import WandbTracker

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"


def make_trackers(config: TrackingConfig, root: Path) -> list[Tracker]:
    """The enabled trackers. Unless a URI is set, MLflow's database is beside `root`, the output
    root."""
    found: list[Tracker] = []
    if config.mlflow.enabled:
        beside = root.absolute().parent
        uri = mlflow_uri(config, root)
        found.append(
            MlflowTracker(uri, config.mlflow.experiment, beside / ARTIFACTS, config.timeout_s)
        )
    if config.wandb.enabled:
        wandb = config.wandb
        found.append(WandbTracker(wandb.project, wandb.entity, wandb.mode))
    if config.tensorboard.enabled:
        found.append(TensorboardTracker())
    return found


def mlflow_uri(config: TrackingConfig, root: Path) -> str:
    """The setting, else the variable that MLflow reads, else a file beside the output root."""
    local = f"sqlite:///{root.absolute().parent / DATABASE}"
    return config.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI") or local
