"""Settings of a study's output: files and console, profiler, trackers."""

# OmegaConf evaluates these annotations at run time and supports typing.List, not list.
from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional

from numa_bench.config.settings import documented_field

PROGRESS = ("auto", "bar", "plain")
PROFILERS = ("auto", "nsys", "torch", "none")
CAPTURES = ("window", "run")
WANDB_MODES = ("online", "offline", "disabled")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(kw_only=True, slots=True)
class OutputConfig:
    """Where results go and what is shown."""

    root: str = documented_field("outputs", "Directory in which each study creates its own.")
    progress: str = documented_field(
        "auto", "auto (a bar on a terminal, else plain lines), bar or plain."
    )
    log_level: str = documented_field(
        "INFO", f"Lowest level shown and logged: {', '.join(LOG_LEVELS)}."
    )
    error_lines: int = documented_field(
        12, "Number of last stderr lines of a failed run to keep in its record."
    )
    grace_s: float = documented_field(
        10.0, "Seconds between SIGTERM and SIGKILL when a run is stopped."
    )


@dataclass(kw_only=True, slots=True)
class ProfilerConfig:
    """Which profiler records each run, and how."""

    kind: str = documented_field(
        "auto",
        "nsys (Nsight Systems), torch (torch.profiler, for hosts without nsys), none, or auto: "
        "nsys if it is installed and works, else none with a message.",
    )
    executable: str = documented_field(
        "nsys",
        "Name or path of nsys. conf/profiler uses the environment variable NSYS if it is set.",
    )
    capture: str = documented_field(
        "window",
        "window: only a short window after the timed one. run: everything from the start; the "
        "timed window is then traced too, and the record says so.",
    )
    batches: int = documented_field(
        32,
        "Minimum number of batches in the profiled window, which lasts at least 0.2 s unless "
        "budget_s is shorter.",
    )
    budget_s: float = documented_field(2.0, "Maximum length of the profiled window in seconds.")
    trace: List[str] = documented_field(
        ["cuda", "nvtx"], "What nsys traces (nsys profile --trace)."
    )
    sample: str = documented_field(
        "none", "CPU sampling of nsys (--sample): none, process-tree, system-wide."
    )
    cpuctxsw: str = documented_field(
        "none", "Thread scheduling trace of nsys (--cpuctxsw): same choices as sample."
    )
    extra_args: List[str] = documented_field(
        [],
        "Extra arguments of nsys profile, each quoted: ['--gpu-metrics-device=all'].",
    )
    env: List[str] = documented_field(
        [],
        "Environment variables to pass to profiled runs in addition to those that change results. "
        "A report contains the whole environment, so nsys is started with a minimal one.",
    )
    export: bool = documented_field(
        True, "Export every nsys report to SQLite, between measurements."
    )


@dataclass(kw_only=True, slots=True)
class MlflowConfig:
    """MLflow."""

    enabled: bool = documented_field(False, "Log to MLflow; tracking=mlflow enables it.")
    uri: Optional[str] = documented_field(
        None,
        "Tracking URI without credentials. null: MLFLOW_TRACKING_URI, else an SQLite file next to "
        "the output root.",
    )
    experiment: Optional[str] = documented_field(None, "MLflow experiment. null: the study's name.")


@dataclass(kw_only=True, slots=True)
class WandbConfig:
    """Weights & Biases."""

    enabled: bool = documented_field(False, "Log to Weights & Biases; tracking=wandb enables it.")
    project: str = documented_field("numa_bench", "Project to log to.")
    entity: Optional[str] = documented_field(None, "User or team. null: the account's default.")
    mode: Optional[str] = documented_field(
        None, "online, offline or disabled. null: WANDB_MODE, else online with an account."
    )


@dataclass(kw_only=True, slots=True)
class TensorboardConfig:
    """TensorBoard."""

    enabled: bool = documented_field(
        False, "Write event files to the study's directory; tracking=tensorboard enables it."
    )


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Trackers to log to. They read stored results between runs, never during a measurement."""

    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: TensorboardConfig = field(default_factory=TensorboardConfig)
    required: bool = documented_field(
        False, "Exit with code 2 before the first run if a tracker does not work."
    )
    timeout_s: float = documented_field(
        10.0, "Maximum wait in seconds for a tracker after a run; what it misses is logged later."
    )
    series_points: int = documented_field(
        100, "Maximum number of batches per run logged as steps. 0: none."
    )
    max_file_mb: float = documented_field(
        10.0, "Maximum size of a file (log of a failed run, profile) copied to a tracker."
    )
