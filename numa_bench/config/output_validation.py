"""Checks of the settings of a study's output: files and console, profiler, trackers."""

from __future__ import annotations

from numa_bench.config.checks import check_at_least, check_one_of, check_seconds
from numa_bench.config.schemas import output as cfg
from numa_bench.config.schemas.output import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.errors import ConfigError
from numa_bench.redaction import is_secret, redact_uri

URI_KEY = "tracking.mlflow.uri"


def check_output(output: OutputConfig) -> None:
    """Raise ConfigError for the first setting of `output` that cannot be used."""
    check_one_of("output.progress", output.progress, cfg.PROGRESS)
    check_one_of("output.log_level", output.log_level, cfg.LOG_LEVELS)
    check_at_least("output.error_lines", output.error_lines, 0)
    check_seconds("output.grace_s", output.grace_s)
    check_root(output.root)


def check_profiler(profiler: ProfilerConfig) -> None:
    """Raise ConfigError for the first setting of `profiler` that cannot be used."""
    check_one_of("profiler.kind", profiler.kind, cfg.PROFILERS)
    check_one_of("profiler.capture", profiler.capture, cfg.CAPTURES)
    if profiler.kind == "torch" and profiler.capture == "run":
        raise ConfigError(
            "profiler.capture", "run", "torch.profiler can only record a window; use profiler=nsys"
        )
    check_at_least("profiler.batches", profiler.batches, 1)
    if not profiler.budget_s > 0:
        raise ConfigError("profiler.budget_s", profiler.budget_s, "must be greater than 0")
    check_seconds("profiler.budget_s", profiler.budget_s)
    if not profiler.trace:
        raise ConfigError("profiler.trace", [], "must not be empty; use at least nvtx")
    if profiler.capture == "window" and "nvtx" not in profiler.trace:
        raise ConfigError(
            "profiler.trace",
            profiler.trace,
            "must include nvtx, which marks the profiled window; add it",
        )
    for name in profiler.env:
        if is_secret(name):
            raise ConfigError(
                "profiler.env",
                name,
                "looks like a secret, and reports contain the environment; remove it",
            )


def check_tracking(tracking: TrackingConfig) -> None:
    """Raise ConfigError for the first setting of `tracking` that cannot be used."""
    if not tracking.timeout_s > 0:
        raise ConfigError("tracking.timeout_s", tracking.timeout_s, "must be greater than 0")
    check_seconds("tracking.timeout_s", tracking.timeout_s)
    check_at_least("tracking.series_points", tracking.series_points, 0)
    check_at_least("tracking.max_file_mb", tracking.max_file_mb, 0)
    if tracking.wandb.mode is not None:
        check_one_of("tracking.wandb.mode", tracking.wandb.mode, cfg.WANDB_MODES)
    check_uri(tracking.mlflow.uri)


def check_uri(uri: str | None) -> None:
    """Raise ConfigError if a URI contains credentials, because settings are written to files."""
    if uri and redact_uri(uri) != uri:
        raise ConfigError(
            URI_KEY,
            redact_uri(uri),
            "contains a user name or password, and settings are stored in files; use the variables "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_URI",
        )


def check_root(root: str) -> None:
    """Raise ConfigError if the output directory is empty: studies would be written below /."""
    if not root.strip():
        raise ConfigError("output.root", "''", "must not be empty; set a directory")
