"""What the timing simulation knows of memory: sizes, registered ranges, what was last put where."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from numa_bench.errors import MachineError
from tests.simulation.model_cost import Content


class HostRanges:
    """Registered host memory."""

    def __init__(self) -> None:
        self._ranges: dict[int, int] = {}
        self._known: set[int] = set()

    def register(self, address: int, nbytes: int) -> None:
        """Copies may use these bytes."""
        self._ranges[address] = nbytes

    def unregister(self, address: int) -> None:
        """Copies may use them no more. Raises KeyError."""
        del self._ranges[address]
        self._known.clear()

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a host tensor is in registered memory."""
        address = tensor.data_ptr()
        end = address + tensor.numel() * tensor.element_size()
        return any(at <= address and end <= at + n for at, n in self._ranges.items())

    def require(self, tensor: torch.Tensor) -> None:
        """Raise MachineError where a host tensor is not in registered memory."""
        address = tensor.data_ptr()
        if address in self._known:
            return
        if not self.holds(tensor):
            raise MachineError("a copy of host memory that is not registered is not asynchronous")
        self._known.add(address)


class DeviceMemory:
    """Tensors on the device, by address: what they hold and how many bytes live at a time."""

    def __init__(self) -> None:
        self.contents: dict[int, Content | None] = {}
        self.live_bytes = self.peak_bytes = 0
        self._tracked: dict[int, weakref.ref[Any]] = {}

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of no particular values."""
        tensor = torch.empty(shape, dtype=dtype)
        address = tensor.data_ptr()
        self.contents[address] = None
        self.track(tensor, tensor.numel() * tensor.element_size(), address)
        return tensor

    def track(self, owner: Any, nbytes: int, address: int | None = None) -> None:
        """Count the bytes of a tensor or module for as long as it lives."""
        key = id(owner)
        if key in self._tracked:
            return

        def release(_: object) -> None:
            del self._tracked[key]
            self.live_bytes -= nbytes
            if address is not None:
                self.contents.pop(address, None)

        self._tracked[key] = weakref.ref(owner, release)
        self.live_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def content(self, tensor: torch.Tensor) -> Content:
        """What a device tensor holds: NaN where nothing was written."""
        if tensor.data_ptr() not in self.contents:
            raise MachineError("a tensor that is not on the device was given to the device")
        content = self.contents[tensor.data_ptr()]
        return Content(torch.full(tensor.shape, float("nan"))) if content is None else content
