"""Open and close NVML, query the driver and where a GPU is.

pynvml is imported only when something is queried.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from numa_bench.machine.backend import current_backend
from numa_bench.machine.model import NumaNode

#: Sizes of NVML's sets in words of 64 bits: 1024 nodes (the kernel's most, NODES_SHIFT 10) and 8192
#: CPUs (its most on x86-64, NR_CPUS).
_NODE_WORDS, _CPU_WORDS = 16, 128
#: nvml.h: NVML_AFFINITY_SCOPE_NODE and NVML_DEVICE_MIG_ENABLE.
_SCOPE_NODE, _MIG_ENABLED = 0, 1


class NvmlUnavailableError(Exception):
    """No pynvml, no driver library or no driver; the message says which."""


@contextlib.contextmanager
def open_nvml(module: Any | None = None) -> Iterator[Any]:
    """The initialised NVML module, shut down at the end: `module`, the backend's, or pynvml.

    Raises NvmlUnavailableError, before the body runs, if NVML does not start.
    """
    module = current_backend().nvml if module is None else module
    try:
        nvml = importlib.import_module("pynvml") if module is None else module
        nvml.nvmlInit()
    except Exception as error:
        raise NvmlUnavailableError(f"{type(error).__name__}: {error}") from error
    try:
        yield nvml
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def find_affinity_node(nvml: Any, handle: Any, nodes: Sequence[NumaNode]) -> int | None:
    """The one node that NVML reports as close to a GPU, by its memory, else by its CPUs.

    None if NVML does not answer (an old driver, no permission) or names several nodes.
    """
    memory = _read_set(
        nvml, lambda: nvml.nvmlDeviceGetMemoryAffinity(handle, _NODE_WORDS, _SCOPE_NODE)
    )
    close = [node.id for node in nodes if node.id in memory]
    if len(close) != 1:
        cpus = _read_set(nvml, lambda: nvml.nvmlDeviceGetCpuAffinity(handle, _CPU_WORDS))
        close = [node.id for node in nodes if not cpus.isdisjoint(node.cpus)]
    return close[0] if len(close) == 1 else None


def is_mig_enabled(nvml: Any, handle: Any) -> bool:
    """Whether a GPU is partitioned into MIG slices; False for GPUs without MIG."""
    try:
        # (current, pending); the pending mode takes effect with the next reset.
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0] == _MIG_ENABLED)
    except (nvml.NVMLError, AttributeError):
        return False


def read_compute_capability(nvml: Any, handle: Any) -> tuple[int, int] | None:
    """A GPU's compute capability as (major, minor), or None if NVML does not answer."""
    return _read_pair(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))


def read_max_link(nvml: Any, handle: Any) -> tuple[int, int] | None:
    """Generation and width of the fastest PCIe link that GPU and slot can both reach.

    Not the current generation, which drops while a GPU idles. None if NVML does not answer.
    """
    return _read_pair(
        nvml,
        lambda: (
            nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
            nvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
        ),
    )


def read_memory_bytes(nvml: Any, handle: Any) -> int | None:
    """All memory of a GPU in bytes, or None if NVML does not answer."""
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except (nvml.NVMLError, AttributeError):
        return None


def _read_pair(nvml: Any, query: Callable[[], Iterable[int]]) -> tuple[int, int] | None:
    try:
        first, second = query()
    except (nvml.NVMLError, AttributeError):
        return None
    return int(first), int(second)


def _read_set(nvml: Any, query: Callable[[], Iterable[int]]) -> set[int]:
    """The members of a set that NVML returns as 64-bit words; empty if it does not answer."""
    try:
        words = list(query())
    except (nvml.NVMLError, AttributeError):
        return set()
    # Bit b of word w stands for member 64 w + b (nvmlDeviceGetCpuAffinity).
    return {64 * i + bit for i, word in enumerate(words) for bit in range(64) if word >> bit & 1}


def read_driver_versions() -> tuple[str | None, str | None]:
    """The NVIDIA driver's version and the newest CUDA version it supports; None without one."""
    try:
        with open_nvml() as nvml:
            driver: Any = nvml.nvmlSystemGetDriverVersion()
            number: int = nvml.nvmlSystemGetCudaDriverVersion()
    except Exception:  # noqa: BLE001 - NVML's exception classes exist only if pynvml does
        return None, None
    text = driver.decode() if isinstance(driver, bytes) else str(driver)
    # NVML gives 1000 x major + 10 x minor.
    return text, f"{number // 1000}.{number % 1000 // 10}"
