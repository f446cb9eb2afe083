"""Structured configs: every setting, its type, its default and its documentation.

The classes are registered in Hydra's ConfigStore, so an unknown key or a wrong type is refused
when the config is composed (`slots=True` is what makes `+typo=1` an error). What types cannot say
is checked in `validation.py`; what a setting does is in `planning.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, List, Optional, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from numa_bench.config.settings import documented_field

POLICIES = ("bind", "preferred", "interleave", "local", "none")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
ATTENTIONS = ("explicit", "sdpa")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
DEVICES = ("auto", "cuda", "cpu")
ORDERS = ("shuffled", "sequential")
PROGRESS = ("auto", "bar", "plain")
PROFILERS = ("auto", "nsys", "torch", "none")
CAPTURES = ("window", "run")
WANDB_MODES = ("online", "offline", "disabled")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(kw_only=True, slots=True)
class TestConfig:
    """How one run measures. Any of these can also stand in an entry of `vit_configs`."""

    __test__ = False  # not a pytest class

    num_samples: Any = documented_field(
        "auto",
        "Samples to time at least, rounded up to whole batches. auto: with a GPU by time "
        "(min_timed_s), on the CPU 2000.",
        kind="int or auto",
    )
    min_timed_s: Optional[float] = documented_field(
        None,
        "Shortest timed window in seconds. null: 2 with a GPU, so that clocks have settled and "
        "sensors have readings inside the window; 0 on the CPU.",
    )
    time_budget_s: float = documented_field(
        10.0,
        "Longest timed window in seconds; a slow machine measures fewer samples and says so.",
    )
    batch_size: int = documented_field(
        8, "Samples in one batch, which is one copy in and one copy out."
    )
    image_size: int = documented_field(224, "Side of the square input image in pixels.")
    channels: int = documented_field(3, "Channels of the input image.")
    pipeline_depth: int = documented_field(
        2, "Batches in flight: 1 is synchronous, 2 is double buffered. No overlap on the CPU."
    )
    memory_size_mb: Optional[int] = documented_field(
        None,
        "Host sample pool in MB (1e6 bytes), read round-robin. null: twice the last-level cache "
        "of the largest node, at least 256.",
    )
    warmup_samples: int = documented_field(
        40, "Fewest warm-up samples; warm-up ends when stage times settle."
    )
    min_warmup_s: Optional[float] = documented_field(
        None, "Shortest warm-up in seconds. null: 1 with a GPU, whose clocks ramp up; 0 on the CPU."
    )
    warmup_budget_s: float = documented_field(5.0, "Longest warm-up in seconds, after compilation.")
    precision: str = documented_field("fp32", f"One of {', '.join(PRECISIONS)}. tf32 needs a GPU.")
    attention: str = documented_field(
        "explicit",
        f"Attention of the ViTs: {', '.join(ATTENTIONS)}. explicit: vit-pytorch's matmul and "
        "softmax; sdpa: torch's scaled_dot_product_attention, same weights.",
    )
    compile_model: bool = documented_field(False, "Compile the model with torch.compile.")
    compile_mode: str = documented_field(
        "default", f"torch.compile mode: {', '.join(COMPILE_MODES)}."
    )
    cpu_threads: Optional[int] = documented_field(
        None, "torch and OpenMP threads of the worker. null: as many as CPUs it is bound to."
    )
    seed: int = documented_field(0, "Seed of the model's weights and of the input samples.")
    timeout_s: float = documented_field(
        900.0, "A run that lasts longer is stopped and recorded as timeout."
    )


def _optional_twin(cls: type, name: str) -> type:
    """A dataclass with the fields of `cls`, all optional: null means 'as in the other one'."""
    hints = get_type_hints(cls)
    twins = [
        (
            f.name,
            Optional[hints[f.name]],
            field(
                default=None,
                metadata={
                    "help": f"As test.{f.name}, for this model alone.",
                    "kind": f.metadata["kind"] and f"{f.metadata['kind']} or null",
                    "twin": True,
                },
            ),
        )
        for f in fields(cls)
    ]
    return make_dataclass(
        name, twins, kw_only=True, slots=True, namespace={"__module__": __name__, "__test__": False}
    )


if TYPE_CHECKING:

    class TestOverrides:
        """Every field of TestConfig, optional."""

else:
    TestOverrides = _optional_twin(TestConfig, "TestOverrides")

#: The `test` settings that a vit_configs entry may override for itself.
OVERRIDABLE = tuple(f.name for f in fields(TestConfig))


@dataclass(kw_only=True, slots=True)
class ViTConfig(TestOverrides):
    """One vision transformer, built by vit-pytorch. depth=0 is no model at all: pure transfer."""

    name: Optional[str] = documented_field(
        None, "Name in tables and plots. null: vit<patch>x<depth>x<dim>."
    )
    patch_size: int = documented_field(32, "Side of a patch in pixels; must divide image_size.")
    depth: int = documented_field(
        6, "Transformer blocks. 0: no-op, the input is copied back as it is."
    )
    dim: int = documented_field(512, "Width of a token.")
    heads: Optional[int] = documented_field(None, "Attention heads. null: dim / 64, at least 1.")
    dim_head: Optional[int] = documented_field(
        None, "Width of one head. null: dim / heads, and then heads must divide dim."
    )
    mlp_dim: Optional[int] = documented_field(
        None, "Width of the feed-forward layer. null: 4 x dim."
    )


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Where runs are placed. Lists may be given as [0,1], 0, "0,1" or "0-3"."""

    device: str = documented_field(
        "auto", "auto: GPUs where there are any, else the CPU; or cuda, or cpu."
    )
    gpu_ids: Any = documented_field(
        None,
        "GPUs by number (PCI order, as in nvidia-smi) or UUID, each measured by itself. null: "
        "every visible GPU (CUDA_VISIBLE_DEVICES is honoured). [] or '': the CPU.",
    )
    numa_nodes: Any = documented_field(
        "all",
        "Nodes whose CPUs to run on, one cell each: numbers, or all, local, remote (both relative "
        "to each GPU), unbound (no numactl); a list may mix them.",
    )
    memory_nodes: Any = documented_field(
        None,
        "Nodes for memory, crossed with numa_nodes: numbers, or all, local, remote, same. null: "
        "with a GPU the CPU node itself; without one every node that has memory. With policy "
        "interleave: the set to interleave over (null: all).",
    )
    memory_policy: str = documented_field(
        "bind", f"numactl memory policy: {', '.join(POLICIES)} (none: CPUs bound, memory not)."
    )


@dataclass(kw_only=True, slots=True)
class ExperimentConfig:
    """One study: models x GPUs x placements x repeats."""

    name: str = documented_field(
        MISSING, "Name of the study, and of its directory under the output root."
    )
    vit_configs: List[ViTConfig] = documented_field([], "The models to run.")
    test: TestConfig = field(
        default_factory=TestConfig, metadata={"help": "Measurement settings of all models."}
    )
    hardware: HardwareConfig = field(
        default_factory=HardwareConfig, metadata={"help": "Devices and placements."}
    )
    repeats: int = documented_field(
        3, "Fresh processes per cell. One repeat gives no confidence interval."
    )
    order: str = documented_field(
        "shuffled", "shuffled: every cell once per block, each block in random order; sequential."
    )
    order_seed: int = documented_field(0, "Seed of the random order.")
    monitor_interval_s: float = documented_field(
        1.0, "Seconds between readings of the sensors beside a run. 0 switches them off."
    )
    max_gpus: Optional[int] = documented_field(None, "Use at most so many of the GPUs. null: all.")


@dataclass(kw_only=True, slots=True)
class OutputConfig:
    """Where results go and what is shown."""

    root: str = documented_field("outputs", "Directory under which every study gets its own.")
    progress: str = documented_field(
        "auto", "auto: a bar on a terminal, else plain lines; bar; plain."
    )
    log_level: str = documented_field(
        "INFO", f"Least level shown and logged: {', '.join(LOG_LEVELS)}."
    )
    error_lines: int = documented_field(
        12, "Last lines of a failed run's stderr kept in its record."
    )
    grace_s: float = documented_field(
        10.0, "Seconds a stopped run gets to end by itself before SIGKILL."
    )


@dataclass(kw_only=True, slots=True)
class ProfilerConfig:
    """What is recorded of every run beside its measurement."""

    kind: str = documented_field(
        "auto",
        "nsys (Nsight Systems); torch (torch.profiler, for hosts without nsys); none; auto: nsys "
        "where it is found and works, else none, and says so.",
    )
    executable: str = documented_field(
        "nsys", "nsys by name or path. conf/profiler takes it from the variable NSYS if set."
    )
    capture: str = documented_field(
        "window",
        "window: only a short window after the timed one; run: everything from the start, and the "
        "timed window is then traced too, which its record says.",
    )
    batches: int = documented_field(
        32, "Fewest batches in the profiled window, which lasts at least 0.2 s; budget_s wins."
    )
    budget_s: float = documented_field(2.0, "Longest profiled window in seconds.")
    trace: List[str] = documented_field(
        ["cuda", "nvtx"], "What nsys traces (nsys profile --trace)."
    )
    sample: str = documented_field(
        "none", "CPU sampling of nsys (--sample): none, process-tree, system-wide."
    )
    cpuctxsw: str = documented_field(
        "none", "Thread scheduling in the report (--cpuctxsw); same choices."
    )
    extra_args: List[str] = documented_field(
        [],
        "More arguments of nsys profile, each quoted: ['--gpu-metrics-device=all'].",
    )
    env: List[str] = documented_field(
        [],
        "Variables that a profiled run gets besides those that change results. A report holds the "
        "whole environment, so nsys starts with a minimal one.",
    )
    export: bool = documented_field(
        True, "Export every nsys report to SQLite, between measurements."
    )


@dataclass(kw_only=True, slots=True)
class MlflowConfig:
    """MLflow."""

    enabled: bool = documented_field(False, "Log to MLflow; tracking=mlflow switches it on.")
    uri: Optional[str] = documented_field(
        None,
        "Tracking URI without credentials. null: MLFLOW_TRACKING_URI, else an SQLite file beside "
        "the output root.",
    )
    experiment: Optional[str] = documented_field(
        None, "MLflow experiment. null: the name of the study."
    )


@dataclass(kw_only=True, slots=True)
class WandbConfig:
    """Weights & Biases."""

    enabled: bool = documented_field(
        False, "Log to Weights & Biases; tracking=wandb switches it on."
    )
    project: str = documented_field("numa_bench", "Project to log to.")
    entity: Optional[str] = documented_field(None, "User or team. null: the account's own.")
    mode: Optional[str] = documented_field(
        None, "online, offline or disabled. null: WANDB_MODE, else online with an account."
    )


@dataclass(kw_only=True, slots=True)
class TensorboardConfig:
    """TensorBoard."""

    enabled: bool = documented_field(
        False, "Write event files below the study; tracking=tensorboard switches it on."
    )


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Where else results go. They are logged from what is stored, and never cost a measurement."""

    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: TensorboardConfig = field(default_factory=TensorboardConfig)
    required: bool = documented_field(
        False, "A tracker that does not work ends the study before it starts, with exit code 2."
    )
    timeout_s: float = documented_field(
        10.0, "Longest wait for a tracker after a run; what it missed is logged later."
    )
    series_points: int = documented_field(100, "Most batches of a run logged as steps; 0: none.")
    max_file_mb: float = documented_field(
        10.0, "Largest file (log of a failed run, profile) that is copied to a tracker."
    )


@dataclass(kw_only=True, slots=True)
class RunnerConfig:
    """The whole configuration of hydra_experiment_runner.py."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    profiler: ProfilerConfig = field(default_factory=ProfilerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dry_run: bool = documented_field(False, "Check everything, print the run matrix, run nothing.")
    debug: bool = documented_field(
        False, "Few samples, one repeat, into <root>/debug, which is overwritten each time."
    )
    resume_from: Optional[str] = documented_field(
        None, "Study directory to finish: runs that passed are kept, the others run (again)."
    )
    topology_root: Optional[str] = documented_field(
        None, "Plan for the machine in this captured sysfs tree instead (dry runs only)."
    )


def register_configs() -> None:
    """Put the schemas where the YAML files in conf/ find them. Safe to call twice."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RunnerConfig)
    store.store(group="experiment", name="schema", node=ExperimentConfig)
    store.store(group="output", name="schema", node=OutputConfig)
    store.store(group="profiler", name="schema", node=ProfilerConfig)
