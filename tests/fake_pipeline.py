"""A made-up GPU pipeline: what a run would measure on a machine whose NUMA effect is known.

Stage times come from a link speed that depends on the placement and from a FLOP count; noise is
what real machines show: differences between processes, drift over the study, a slow run now and
then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numa_bench.machine.model import Topology
from numa_bench.records import RunSpec, VitSpec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """What disturbs throughput between runs, as fractions.

    `sd`: standard deviation from process to process. `drift`: change from a study's first run to
    its last. `outliers`: share of runs that are slow by `outlier_least` to `outlier_most`.
    """

    sd: float = 0.01
    drift: float = -0.02
    outliers: float = 0.05
    outlier_least: float = 0.05
    outlier_most: float = 0.10

    def factors(self, rng: np.random.Generator, runs: int) -> Array:
        """Factors on the throughput of `runs` runs, in the order in which they ran."""
        drift = 1 + self.drift * np.linspace(0, 1, runs)
        slow = rng.random(runs) < self.outliers
        depth = rng.uniform(self.outlier_least, self.outlier_most, runs)
        factors: Array = drift * np.exp(rng.normal(0, self.sd, runs)) * (1 - slow * depth)
        return factors


@dataclass(frozen=True)
class Machine:
    """The speeds of a made-up machine. `effect` is the share of link speed that is lost to a
    node at the greatest distance; nearer ones lose in proportion."""

    topology: Topology
    effect: float = 0.2
    link_gb_per_s: float = 50.0
    tflop_per_s: float = 40.0
    speedup: float = 1.0  # of everything: a driver's, for before and after
    host_ms: float = 0.01  # of the host's time to submit one batch to a GPU


#: FLOP of one sample of every model that is no ViT.
CUSTOM_FLOP = 1.5e9


def made_up_sizes(vit: VitSpec) -> tuple[int, int, int]:
    """Patch size, depth and dim; of a model that is no ViT those of a ViT that costs as much."""
    if vit.is_custom:
        return 32, 4, 256
    sizes = vit.sizes()
    return sizes["patch_size"], sizes["depth"], sizes["dim"]


def stages_ms(machine: Machine, spec: RunSpec) -> tuple[float, float, float]:
    """Times of H2D, compute and D2H of one batch in milliseconds, undisturbed."""
    test, (patch_size, depth, dim) = spec.test, made_up_sizes(spec.vit)
    width = 4 if test.precision in ("fp32", "tf32") else 2
    sent = test.batch_size * test.channels * test.image_size**2 * width
    patches = (test.image_size // patch_size) ** 2
    returned = test.batch_size * (patches + 1) * dim * width if depth else sent
    link = machine.link_gb_per_s * (1 - loss(machine, spec)) * 1e6
    work = 24 * depth * (patches + 1) * dim**2 * test.batch_size
    compiled = 1.4 if test.compile_model else 1.0
    compute = 0.004 + work / (machine.tflop_per_s * 1e9 * compiled)
    if spec.device.kind == "cpu":
        compute = 0.004 + 100 * (compute - 0.004) / (1 - loss(machine, spec) / 2)
    return sent / link, compute, returned / link


def loss(machine: Machine, spec: RunSpec) -> float:
    """The share of link speed that this placement loses."""
    home = spec.placement.numa_node if spec.device.kind == "cpu" else spec.device.gpu_numa_node
    node = machine.topology.node(home) if home is not None else None
    if node is None:
        return 0.0
    greatest = max(node.distances.values())
    nodes = spec.placement.memory_nodes or tuple(node.distances)
    far = [(node.distances[n] - 10) / max(1, greatest - 10) for n in nodes]
    return machine.effect * sum(far) / len(far)


def throughput(machine: Machine, spec: RunSpec) -> float:
    """Samples per second of the whole pipeline, undisturbed."""
    stages = stages_ms(machine, spec)
    serial = spec.device.kind == "cpu" or spec.test.pipeline_depth == 1
    batch_ms = sum(stages) if serial else 1.02 * max(stages)
    if spec.device.kind == "cuda":
        batch_ms = max(batch_ms, machine.host_ms)
    return machine.speedup * 1e3 * spec.test.batch_size / batch_ms


def measured(machine: Machine, spec: RunSpec, factor: float) -> dict[str, float | None]:
    """The metrics of one run whose throughput is `factor` times the undisturbed one."""
    h2d, compute, d2h = (t / factor / machine.speedup for t in stages_ms(machine, spec))
    rate = throughput(machine, spec) * factor
    test, (patch_size, depth, dim) = spec.test, made_up_sizes(spec.vit)
    width = 4 if test.precision in ("fp32", "tf32") else 2
    sent = test.batch_size * test.channels * test.image_size**2 * width
    tokens = (test.image_size // patch_size) ** 2 + 1
    returned = test.batch_size * tokens * dim * width if depth else sent
    latency = (h2d + compute + d2h) * (1 + 0.2 * (test.pipeline_depth - 1))
    gpu = spec.device.kind == "cuda"
    found = _found_on_a_gpu(machine, spec, (h2d, compute, d2h)) if gpu else {}
    if test.cuda_graph:
        found |= dict.fromkeys(("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"))
    return {
        "throughput_samples_per_s": rate,
        "latency_p50_ms": latency,
        "latency_p95_ms": 1.05 * latency,
        "latency_p99_ms": 1.15 * latency,
        "h2d_ms": h2d,
        "compute_ms": compute,
        "d2h_ms": d2h,
        "h2d_gb_per_s": sent / h2d / 1e6,
        "d2h_gb_per_s": returned / d2h / 1e6,
        "overlap_efficiency": 0.9 if gpu and test.pipeline_depth > 1 else -0.01,
        "compile_s": 25.0 / factor if test.compile_model and depth else None,
        "warmup_s": 0.5,
        "flop_per_sample": CUSTOM_FLOP if spec.vit.is_custom else None,
        "peak_device_memory_mb": 800.0 if gpu else None,
        "peak_host_memory_mb": 1800.0,
        "placement_fraction": 1.0 if spec.placement.bound else None,
        "measured_samples": float(test.num_samples),
        "measured_s": test.num_samples / rate,
        **found,
    }


def is_host_bound(machine: Machine, spec: RunSpec) -> bool:
    """Whether the GPU waits for the host."""
    return spec.device.kind == "cuda" and 0.9 * machine.host_ms > max(stages_ms(machine, spec))


def _found_on_a_gpu(
    machine: Machine, spec: RunSpec, stages: tuple[float, float, float]
) -> dict[str, float | None]:
    """What only a GPU's run measures: copies share the link both ways, so they take longer."""
    batch_ms = 1e3 * spec.test.batch_size / throughput(machine, spec)
    shared = 1.3 if spec.test.pipeline_depth > 1 else 1.0
    pipelined = {
        "h2d_pipelined_ms": shared * stages[0],
        "compute_pipelined_ms": stages[1],
        "d2h_pipelined_ms": shared * stages[2],
    }
    return {
        **({} if spec.test.cuda_graph else pipelined),
        "host_submit_fraction": min(0.98, machine.host_ms / batch_ms),
        "busiest_stage_fraction": min(1.0, max(stages) / batch_ms),
    }


def sensors(spec: RunSpec, rng: np.random.Generator, place: float) -> dict[str, dict[str, float]]:
    """A monitor summary; `place` goes from 0 to 1 over the study, and the GPU grows warmer."""
    middle = {"cpu_busy": 0.3, "cpu_foreign": 0.001, "cpu_mhz": 3000.0, "load_1m": 1.2}
    if spec.device.kind == "cuda":
        middle |= {
            "sm_mhz": 1755.0 - 15 * round(4 * place),
            "memory_mhz": 2619.0,
            "power_w": 420.0 + 20 * rng.random(),
            "temperature_c": 48.0 + round(18 * place),
            "gpu_busy": 0.93,
            "pcie_generation": 5.0,
            "pcie_width": 16.0,
            "pcie_max_generation": 5.0,
            "pcie_max_width": 16.0,
            "throttle_reasons": 0.0,
            "foreign_processes": 0.0,
        }
    return {name: {"min": v, "median": v, "max": v} for name, v in middle.items()}
