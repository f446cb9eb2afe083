"""The parts of a run's spec: its model, settings, device, profile, and what other workloads do.

Bytes, seconds and samples inside; a field's name carries its unit; MB is 1e6 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

JsonDict = dict[str, Any]
#: Values of `TestSpec.host_work` and `host_memory` with which a run is what it was before these
#: settings existed.
NO_HOST_WORK, REGISTERED = "none", "registered"
#: Fields of `VitSpec` that are sizes of a ViT.
VIT_SIZES = ("patch_size", "depth", "dim", "heads", "dim_head", "mlp_dim")


@dataclass(frozen=True)
class VitSpec:
    """A resolved model. `depth` 0 is pure transfer, and the other sizes are then 0.

    A model that is no ViT has a `target` (the full name of what makes it) or a `timm` name, with
    keyword arguments `args`, and no sizes. `input_shape` is that of one sample, (C, H, W); None:
    (channels, image_size, image_size) of the test settings, as for every ViT.
    """

    name: str
    patch_size: int | None = None
    depth: int | None = None
    dim: int | None = None
    heads: int | None = None
    dim_head: int | None = None
    mlp_dim: int | None = None
    target: str | None = None
    timm: str | None = None
    args: JsonDict = field(default_factory=dict, hash=False)
    input_shape: tuple[int, int, int] | None = None

    @property
    def is_custom(self) -> bool:
        """Whether this is another model than a ViT of vit-pytorch."""
        return self.target is not None or self.timm is not None

    @property
    def is_no_op(self) -> bool:
        """Whether the model returns its input."""
        return self.depth == 0

    @property
    def origin(self) -> str:
        """What makes a model that is no ViT, as one would write it: pkg.make_net(width=8)."""
        args = [f"{name}={value!r}" for name, value in self.args.items()]
        if self.target is not None:
            return f"{self.target}({', '.join(args)})"
        return f"timm.create_model({', '.join([repr(self.timm), *args])})"

    def sizes(self) -> dict[str, int]:
        """The sizes of a ViT by name. Raises ValueError for any other model, which has none."""
        sizes = {name: getattr(self, name) for name in VIT_SIZES}
        if None in sizes.values():
            raise ValueError(f"{self.name} is not a ViT of vit-pytorch, so it has no such sizes")
        return sizes


@dataclass(frozen=True)
class TestSpec:
    """The resolved `test` settings of one run; the fields are those of `config.TestConfig`.

    `num_samples` 0: by time, at least `min_timed_s`.
    """

    __test__ = False  # not a pytest class

    num_samples: int
    min_timed_s: float
    time_budget_s: float
    batch_size: int
    image_size: int
    channels: int
    pipeline_depth: int
    memory_size_mb: int
    warmup_samples: int
    min_warmup_s: float
    warmup_budget_s: float
    precision: str
    attention: str
    cuda_graph: bool
    compile_model: bool
    compile_mode: str
    cpu_threads: int | None
    seed: int
    timeout_s: float
    host_work: str = NO_HOST_WORK
    host_threads: int | None = None
    host_memory: str = REGISTERED


@dataclass(frozen=True)
class DeviceSpec:
    """The device of one run: `kind` is cuda or cpu; the rest is null on the CPU.

    `others` are the further GPUs of a run that sees several, as a command may; the other fields
    are those of the first.
    """

    kind: str
    gpu_id: int | None = None
    gpu_name: str | None = None
    gpu_uuid: str | None = None
    gpu_numa_node: int | None = None
    others: tuple[DeviceSpec, ...] = ()

    @property
    def gpus(self) -> tuple[DeviceSpec, ...]:
        """Each GPU of the run, in the order in which it sees them; empty on the CPU."""
        return (self, *self.others) if self.kind == "cuda" else ()

    @property
    def gpu_ids(self) -> list[int]:
        """The numbers of its GPUs."""
        return [gpu.gpu_id for gpu in self.gpus if gpu.gpu_id is not None]


def read_device(data: JsonDict) -> DeviceSpec:
    """A DeviceSpec after a trip through JSON, which has lists only."""
    return DeviceSpec(**{**data, "others": tuple(map(read_device, data.get("others", ())))})


@dataclass(frozen=True)
class ProfileSpec:
    """What is recorded of one run: `kind` is nsys, torch or none.

    `capture` is "window" (only a window of at most `batches` batches and `budget_s` seconds, after
    the timed one) or "run" (everything, which the timed window then pays for).
    """

    kind: str = "none"
    capture: str = "window"
    batches: int = 0
    budget_s: float = 0.0


@dataclass(frozen=True)
class StreamSpec:
    """Passes over host memory: `operation` is read, write or copy, `buffer_mb` the size of each
    array, `threads` how many share a pass. `until_stopped`: it goes on until the other workers of
    its set are done."""

    operation: str
    buffer_mb: int
    threads: int
    until_stopped: bool = False


@dataclass(frozen=True)
class BandwidthSpec:
    """What a bandwidth run measures: every direction at every size in every kind of memory.

    `sizes_bytes`: bytes of each array, multiples of 64. `directions` of a run on the CPU: read,
    write, copy, latency; `memory` there: pageable, huge. `rounds` samples of each point are taken,
    fewer if they take longer than `budget_s`.
    """

    sizes_bytes: tuple[int, ...]
    directions: tuple[str, ...]
    memory: tuple[str, ...]
    rounds: int
    budget_s: float


@dataclass(frozen=True)
class Expectation:
    """What is predicted of a run: what bounds it (link, host or compute), and the seconds that one
    batch takes."""

    bound: str
    batch_s: float


@dataclass(frozen=True)
class Distances:
    """How far CPUs and memory of a placement are from the device, seen from the device's node.

    Without a GPU from the node of the CPUs. `cpu_class` and `memory_class`: same_node, same_socket,
    other_socket, other_socket_2_hops (and so on), or "mixed" for nodes of different classes;
    `farthest_class` is the farther of the two. `cpu` and `memory` are SLIT distances (10: the same
    node), the greatest of several nodes. None: not bound, or unknown.
    """

    cpu_class: str | None = None
    memory_class: str | None = None
    farthest_class: str | None = None
    cpu: int | None = None
    memory: int | None = None


class WorkerValues(TypedDict):
    """One worker of a set, in the record of the set.

    `throughput_samples_per_s` and `gb_per_s` (of memory streams) are those of the common window;
    `window_s` is the worker's own, in seconds of the host's clock. `status` is that of a run, or
    "stopped": ended by the runner because another worker ended early. What is not known is null.
    """

    name: str
    role: str
    gpu_id: int | None
    numa_node: int | None
    memory_node: int | None
    placement: str
    status: str
    error: str | None
    throughput_samples_per_s: float | None
    gb_per_s: float | None
    placement_fraction: float | None
    window_s: list[float] | None
