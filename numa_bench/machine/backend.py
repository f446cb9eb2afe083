"""The seam between this program and the hardware: file system root, NVML, CUDA, page locations.

By default this is the machine itself. Tests put a simulated machine in its place, also in processes
that they start: the variable NUMA_BENCH_BACKEND names a function, "package.module:function", that
returns another `Backend`.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "NUMA_BENCH_BACKEND"


@dataclass(frozen=True)
class Backend:
    """What replaces the hardware. None: the real hardware is used.

    `root` is where /sys and /proc are read. `nvml` is a module in place of pynvml.
    `cuda_runtime` makes the worker's `CudaRuntime` (see worker/cuda_runtime.py).
    `memory_kernels` makes the `MemoryKernels` of worker/memory_kernels/kernels.py.
    `host_clock` makes the `Clock` of worker/sets/rendezvous.py.
    `locate_pages` maps buffers, as (address, bytes), to page counts by node.
    `simulated` is recorded as the reason why the figures are not a measurement.
    """

    root: Path = Path("/")
    nvml: Any | None = None
    cuda_runtime: Callable[[], Any] | None = None
    locate_pages: Callable[[Sequence[tuple[int, int]]], Counter[int]] | None = None
    simulated: str | None = None
    memory_kernels: Callable[[], Any] | None = None
    host_clock: Callable[[], Any] | None = None


@functools.cache
def current_backend() -> Backend:
    """The backend of this process. Raises ImportError or AttributeError for a wrong name."""
    name = os.environ.get(VARIABLE)
    if not name:
        return Backend()
    module, _, function = name.partition(":")
    backend: Backend = getattr(importlib.import_module(module), function)()
    return backend
