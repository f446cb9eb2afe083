"""How fast a device can copy and compute: data sheets where they are known, else assumptions. Pure.

These figures predict what bounds a run before it is measured, to about a factor of two. Nothing
that is measured depends on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from numa_bench.machine.model import Gpu
from numa_bench.pcie import make_link

#: What copies reach of a PCIe link's rate: packet headers take the rest (55 of 63 GB/s on a PCIe
#: 5.0 x16 link).
LINK_EFFICIENCY = 0.87
#: What both directions move together, of what one direction moves. Assumed; ideal would be 2.
DUPLEX = 1.6
#: Generation and width of a GPU's link where the driver does not say.
ASSUMED_LINK = (4, 16)
#: What matrix products of these sizes reach of the peak, assumed. Attention, normalisation and the
#: activation move memory instead; with 0.4 link and compute of an H100 cross over at 2.2 GFLOP.
ACHIEVED = 0.4
#: Host seconds for one operation that PyTorch submits eagerly (6 to 8 us on current servers), and
#: for the copies, events and Python of a batch besides. Assumed.
OPERATION_S = 7e-6
BATCH_S = 30e-6
#: A CPU: bytes per second that one copy moves, and FLOP per second of one CPU in fp32. Assumed; a
#: CPU with AVX-512 reaches twice that, an old one a third.
CPU_COPY_BYTES_PER_S = 8e9
CPU_FLOP_PER_S = 50e9
#: Half precision has no fast path on most CPUs.
CPU_HALF_FACTOR = 0.5


@dataclass(frozen=True)
class Peak:
    """Dense peak of a GPU in TFLOP/s; tf32 is None before Ampere. `name` matches NVML's name."""

    name: str
    capability: tuple[int, int]
    fp32: float
    tf32: float | None
    half: float


#: Tensor cores without sparsity, fp32 without tensor cores: NVIDIA's data sheets of each product.
#: The first whose name matches counts; by compute capability, the first of that capability.
PEAKS = (
    Peak(r"B200|B100", (10, 0), 75.0, 1100.0, 2250.0),
    Peak(r"H100 PCIe", (9, 0), 51.2, 378.0, 756.0),
    Peak(r"H100 NVL", (9, 0), 60.0, 417.5, 835.0),
    Peak(r"H100|H200|GH200|H800", (9, 0), 66.9, 494.7, 989.4),
    Peak(r"A100|A800", (8, 0), 19.5, 156.0, 312.0),
    Peak(r"A30\b", (8, 0), 10.3, 82.0, 165.0),
    Peak(r"A40\b", (8, 6), 37.4, 74.8, 149.7),
    Peak(r"A10\b", (8, 6), 31.2, 62.5, 125.0),
    Peak(r"L40S", (8, 9), 91.6, 183.0, 362.0),
    Peak(r"L4\b", (8, 9), 30.3, 60.0, 121.0),
    Peak(r"V100", (7, 0), 15.7, None, 125.0),
    Peak(r"T4\b", (7, 5), 8.1, None, 65.0),
)
#: Used for a GPU that neither name nor capability identifies.
ASSUMED_PEAK = PEAKS[4]


@dataclass(frozen=True)
class DeviceLimits:
    """What one device does at most with one precision, and where the figures come from.

    `copy_bytes_per_s` is of one direction, `both_bytes_per_s` of both directions together.
    `overlaps`: copies, host and compute work at the same time (a GPU), or in turn (the CPU).
    """

    device: str
    copy_bytes_per_s: float
    both_bytes_per_s: float
    flop_per_s: float
    overlaps: bool
    sources: tuple[str, ...]


def find_gpu_limits(gpu: Gpu, precision: str) -> DeviceLimits:
    """The limits of a GPU by its link and its name or compute capability."""
    link = make_link(*gpu.link, "NVML") if gpu.link is not None else None
    known = link is not None
    link = link or make_link(*ASSUMED_LINK, "assumed")
    assert link is not None
    rate = LINK_EFFICIENCY * link.gb_per_s
    link_source = (
        f"{link}{'' if known else ' (assumed, the driver does not say)'}: {rate:.0f} GB/s, "
        f"{LINK_EFFICIENCY:.0%} of its rate"
    )
    peak, how = _find_peak(gpu)
    tflop = {"fp32": peak.fp32, "tf32": peak.tf32 or peak.fp32}.get(precision, peak.half)
    return DeviceLimits(
        device=gpu.name or "GPU",
        copy_bytes_per_s=rate * 1e9,
        both_bytes_per_s=DUPLEX * rate * 1e9,
        flop_per_s=ACHIEVED * tflop * 1e12,
        overlaps=True,
        sources=(
            link_source,
            f"{ACHIEVED * tflop:.0f} TFLOP/s in {precision}, assumed {ACHIEVED:.0%} of {how}",
        ),
    )


def find_cpu_limits(cpus: int, precision: str) -> DeviceLimits:
    """The assumed limits of so many CPUs."""
    factor = 1.0 if precision == "fp32" else CPU_HALF_FACTOR
    flop_per_s = factor * CPU_FLOP_PER_S * max(1, cpus)
    return DeviceLimits(
        device=f"{cpus} CPUs",
        copy_bytes_per_s=CPU_COPY_BYTES_PER_S,
        both_bytes_per_s=CPU_COPY_BYTES_PER_S,
        flop_per_s=flop_per_s,
        overlaps=False,
        sources=(
            f"copies in memory at {CPU_COPY_BYTES_PER_S / 1e9:.0f} GB/s (assumed)",
            f"{flop_per_s / 1e9:.0f} GFLOP/s in {precision} (assumed)",
        ),
    )


def _find_peak(gpu: Gpu) -> tuple[Peak, str]:
    for peak in PEAKS:
        if gpu.name and re.search(rf"\b(?:{peak.name})", gpu.name):
            return peak, "its data sheet's peak"
    for peak in PEAKS:
        if peak.capability == gpu.compute_capability:
            major, minor = peak.capability
            return peak, f"a GPU of compute capability {major}.{minor}"
    return ASSUMED_PEAK, "an A100's peak (this GPU is not known)"
