"""Structured configs: every setting with its type, default and help text.

The classes are registered in Hydra's ConfigStore, so unknown keys and wrong types are rejected
when the config is composed (`+typo=1` is an error because of `slots=True`). `validation.py` checks
what types cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, List, Optional, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from numa_bench.config.output_schema import OutputConfig, ProfilerConfig, TrackingConfig
from numa_bench.config.settings import documented_field

POLICIES = ("bind", "preferred", "interleave", "local", "none")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
ATTENTIONS = ("explicit", "sdpa")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
#: Compile modes in which inductor itself makes CUDA graphs.
GRAPH_MODES = ("reduce-overhead", "max-autotune")
DEVICES = ("auto", "cuda", "cpu")
ORDERS = ("shuffled", "sequential")


@dataclass(kw_only=True, slots=True)
class TestConfig:
    """How one run measures. An entry of `vit_configs` may override any of these."""

    __test__ = False  # not a pytest class

    num_samples: Any = documented_field(
        "auto",
        "Minimum number of samples to time, rounded up to whole batches. auto: with a GPU by "
        "time (min_timed_s), on the CPU 2000.",
        kind="int or auto",
    )
    min_timed_s: Optional[float] = documented_field(
        None,
        "Minimum length of the timed window in seconds. null: 2 with a GPU, so that clocks "
        "have settled and sensors have readings inside the window; 0 on the CPU.",
    )
    time_budget_s: float = documented_field(
        10.0,
        "Maximum length of the timed window in seconds; a slow machine then measures fewer "
        "samples, and its records say so.",
    )
    batch_size: int = documented_field(
        8, "Samples per batch. Each batch is one copy to the device and one back."
    )
    image_size: int = documented_field(224, "Side of the square input image in pixels.")
    channels: int = documented_field(3, "Channels of the input image.")
    pipeline_depth: int = documented_field(
        2, "Batches in flight: 1 is synchronous, 2 is double buffered. On the CPU nothing overlaps."
    )
    memory_size_mb: Optional[int] = documented_field(
        None,
        "Host sample pool in MB (1e6 bytes), read round-robin. null: twice the last-level cache "
        "of the largest node, at least 256.",
    )
    warmup_samples: int = documented_field(
        40, "Minimum number of warm-up samples; warm-up ends when stage times settle."
    )
    min_warmup_s: Optional[float] = documented_field(
        None,
        "Minimum length of the warm-up in seconds. null: 1 with a GPU, whose clocks ramp up; 0 on "
        "the CPU.",
    )
    warmup_budget_s: float = documented_field(
        5.0, "Maximum length of the warm-up in seconds, excluding compilation."
    )
    precision: str = documented_field("fp32", f"One of {', '.join(PRECISIONS)}. tf32 needs a GPU.")
    attention: str = documented_field(
        "explicit",
        f"Attention of the ViTs: {', '.join(ATTENTIONS)}. explicit: vit-pytorch's matmul and "
        "softmax; sdpa: torch's scaled_dot_product_attention, same weights.",
    )
    cuda_graph: bool = documented_field(
        False,
        "Replay copies and model as one CUDA graph, so that the host submits nothing per "
        "operation. Single batches are then not timed. Needs a GPU.",
    )
    compile_model: bool = documented_field(False, "Compile the model with torch.compile.")
    compile_mode: str = documented_field(
        "default", f"torch.compile mode: {', '.join(COMPILE_MODES)}."
    )
    cpu_threads: Optional[int] = documented_field(
        None,
        "torch and OpenMP threads of the worker. null: the number of CPUs that it is bound to.",
    )
    seed: int = documented_field(0, "Seed of the model's weights and of the input samples.")
    timeout_s: float = documented_field(
        900.0, "Seconds after which a run is stopped and recorded as timeout."
    )


def _optional_twin(cls: type, name: str) -> type:
    """A dataclass with the fields of `cls`, all optional: null inherits the value from `cls`."""
    hints = get_type_hints(cls)
    twins = [
        (
            f.name,
            Optional[hints[f.name]],
            field(
                default=None,
                metadata={
                    "help": f"As test.{f.name}, for this model only.",
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

#: The `test` settings that a vit_configs entry may override.
OVERRIDABLE = tuple(f.name for f in fields(TestConfig))


@dataclass(kw_only=True, slots=True)
class ViTConfig(TestOverrides):
    """One vision transformer, built with vit-pytorch. depth=0 is a no-op: transfers only."""

    name: Optional[str] = documented_field(
        None, "Name in tables and plots. null: vit<patch>x<depth>x<dim>."
    )
    patch_size: int = documented_field(32, "Side of a patch in pixels; must divide image_size.")
    depth: int = documented_field(
        6, "Transformer blocks. 0: no-op, the input is copied back unchanged."
    )
    dim: int = documented_field(512, "Width of a token.")
    heads: Optional[int] = documented_field(None, "Attention heads. null: dim / 64, at least 1.")
    dim_head: Optional[int] = documented_field(
        None, "Width of one head. null: dim / heads, which requires that heads divides dim."
    )
    mlp_dim: Optional[int] = documented_field(
        None, "Width of the feed-forward layer. null: 4 x dim."
    )


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Where runs are placed. Lists may be given as [0,1], 0, "0,1" or "0-3"."""

    device: str = documented_field(
        "auto", "auto (GPUs if there are any, else the CPU), cuda or cpu."
    )
    gpu_ids: Any = documented_field(
        None,
        "GPUs by number (PCI order, as in nvidia-smi) or UUID, each measured separately. null: "
        "every visible GPU (CUDA_VISIBLE_DEVICES is honoured). [] or '': the CPU.",
    )
    numa_nodes: Any = documented_field(
        "all",
        "Nodes to run on, each a separate cell: numbers, all, local or remote (relative to each "
        "GPU), unbound (no numactl), or a list of these.",
    )
    memory_nodes: Any = documented_field(
        None,
        "Nodes to allocate memory on, crossed with numa_nodes: numbers, all, local, remote or same "
        "(the CPU node). null: same with a GPU, every node with memory without one. With policy "
        "interleave: the set to interleave over (null: all).",
    )
    memory_policy: str = documented_field(
        "bind", f"numactl memory policy: {', '.join(POLICIES)} (none: only CPUs are bound)."
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
        3, "Runs per cell, each a fresh process. One repeat gives no confidence interval."
    )
    order: str = documented_field(
        "shuffled",
        "shuffled (blocks of every cell once, each block in random order) or sequential.",
    )
    order_seed: int = documented_field(0, "Seed of the random order.")
    monitor_interval_s: float = documented_field(
        0.2, "Seconds between sensor readings during a run. 0 disables the monitor."
    )
    max_gpus: Optional[int] = documented_field(None, "Maximum number of GPUs to use. null: all.")


@dataclass(kw_only=True, slots=True)
class RunnerConfig:
    """The whole configuration of hydra_experiment_runner.py."""

    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    profiler: ProfilerConfig = field(default_factory=ProfilerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dry_run: bool = documented_field(
        False, "Check everything and print the run matrix without running anything."
    )
    debug: bool = documented_field(
        False,
        "Few samples and one repeat, written to <root>/debug, which is overwritten each time.",
    )
    resume_from: Optional[str] = documented_field(
        None, "Study directory to complete: runs that passed are kept, the others are run (again)."
    )
    topology_root: Optional[str] = documented_field(
        None, "Plan for the machine in this captured sysfs tree (dry runs only)."
    )


def register_configs() -> None:
    """Register the schemas that the YAML files in conf/ refer to. May be called repeatedly."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RunnerConfig)
    store.store(group="experiment", name="schema", node=ExperimentConfig)
    store.store(group="output", name="schema", node=OutputConfig)
    store.store(group="profiler", name="schema", node=ProfilerConfig)
