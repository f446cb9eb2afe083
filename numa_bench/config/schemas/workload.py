"""Structured configs of what one run does: the settings of a measurement, and of a model.

See `schema.py` for the rest and for how they are registered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Optional, get_type_hints

from numa_bench.config.settings import documented_field

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
#: The device decides; see plan/resolve.py.
AUTO = "auto"
ATTENTIONS = ("explicit", "sdpa")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
HOST_WORKS = ("none", "normalize", "decode")
HOST_MEMORIES = ("registered", "pinned", "pageable")
#: Compile modes in which inductor itself makes CUDA graphs.
GRAPH_MODES = ("reduce-overhead", "max-autotune")


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
    batch_size: Any = documented_field(
        "auto",
        "Samples per batch. Each batch is one copy to the device and one back. auto: the largest "
        "power of two whose input is at most 80 MB, up to 256 with a GPU (256 images of 224 px in "
        "bf16), fewer where a ViT's activations would not fit into its memory, and up to 8 on the "
        "CPU.",
        kind="int or auto",
    )
    image_size: int = documented_field(224, "Side of the square input image in pixels.")
    channels: int = documented_field(3, "Channels of the input image.")
    pipeline_depth: Any = documented_field(
        "auto",
        "Batches in flight: 1 is synchronous, 2 is double buffered. On the CPU nothing overlaps. "
        "auto: 2.",
        kind="int or auto",
    )
    memory_size_mb: Optional[int] = documented_field(
        None,
        "Host sample pool in MB (1e6 bytes), read round-robin. null: twice the last-level cache "
        "of the largest node, at least 256.",
    )
    host_work: str = documented_field(
        "none",
        f"What host threads do for every batch before its copy: {', '.join(HOST_WORKS)}. "
        "normalize: uint8 images to the precision, scaled per channel; decode: JPEG images "
        "decoded, then the same. A stage of its own, which runs ahead of the copies on a GPU.",
    )
    host_threads: Optional[int] = documented_field(
        None,
        "Threads of host_work. null: the CPUs that the worker is bound to minus one, at least 1.",
    )
    host_memory: str = documented_field(
        "registered",
        f"Host memory of the copies: {', '.join(HOST_MEMORIES)}. registered: ordinary memory, "
        "page-locked with cudaHostRegister; pinned: torch's pin_memory (cudaHostAlloc); pageable: "
        "not page-locked, so the driver stages copies. pinned needs a GPU.",
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
    precision: str = documented_field(
        "auto",
        f"One of {', '.join(PRECISIONS)}, or auto. tf32 needs a GPU. auto: bf16 with a GPU, fp16 "
        "with one of a compute capability below 8.0, fp32 on the CPU.",
    )
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
    """One model: a vision transformer of vit-pytorch (depth=0: transfers only) or any other.

    See docs/models.md for `_target_` and `timm`.
    """

    name: Optional[str] = documented_field(
        None,
        "Name in tables and plots. null: vit<patch>x<depth>x<dim>, or the last part of _target_ "
        "or timm's name, each with its args.",
    )
    _target_: Optional[str] = documented_field(
        None,
        "Model instead of a ViT: a function or class that returns a torch.nn.Module, by its full "
        "name, such as torchvision.models.resnet50. Imported and called in the worker only.",
    )
    timm: Optional[str] = documented_field(
        None,
        "Model of timm instead of a ViT, by its name for timm.create_model. Weights are random: "
        "nothing is downloaded. Needs pip install timm.",
    )
    args: Any = documented_field(
        None,
        "Keyword arguments of _target_ or of timm.create_model, such as {num_classes: 10}.",
        kind="mapping or null",
    )
    input_shape: Any = documented_field(
        None,
        "Shape of one sample of _target_ or timm, [C,H,W]. null: [channels,image_size,image_size].",
        kind="list of int or null",
    )
    patch_size: int = documented_field(32, "Side of a patch in pixels; must divide image_size.")
    depth: int = documented_field(
        6, "Transformer blocks. 0: no-op, the input is copied back unchanged."
    )
    dim: int = documented_field(512, "Width of a token.")
    heads: Optional[int] = documented_field(
        None,
        "Attention heads. null: dim / dim_head, or without dim_head the largest divisor of dim up "
        "to dim / 64; at least 1.",
    )
    dim_head: Optional[int] = documented_field(
        None, "Width of one head. null: dim / heads, which requires that heads divides dim."
    )
    mlp_dim: Optional[int] = documented_field(
        None, "Width of the feed-forward layer. null: 4 x dim."
    )
