"""Open and close NVML. pynvml is imported only when a GPU is queried."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from numa_bench.machine.backend import current_backend


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
