"""What a bandwidth study needs of the timing simulation beside the pipeline's calls."""

from __future__ import annotations

from typing import Any

import torch

from tests.simulation.model_cost import Content

#: Free device memory that is reported.
FREE_BYTES = 80_000_000_000


class PlainCopies:
    """See `numa_bench.worker.bandwidth.copy_runtime.CopyRuntime`; mixed into `TimingRuntime`."""

    def new_pinned(self: Any, nbytes: int) -> torch.Tensor:
        """Host memory that is registered as long as the runtime lives."""
        tensor = torch.empty(nbytes, dtype=torch.uint8)
        self._pinned.append(tensor)
        self.register_host(tensor.data_ptr(), nbytes)
        return tensor

    def copy_pageable(self: Any, target: torch.Tensor, source: torch.Tensor) -> None:
        """Wait for the device, then for the bytes at the rate of the staging CPU."""
        inwards = self.is_on_device(target)
        host = source if inwards else target
        assert not self.is_pinned(host), "this memory is page-locked; use copy"
        links = self.links
        direction = links.h2d_bytes_per_s if inwards else links.d2h_bytes_per_s
        self.synchronize()
        rate = min(direction, links.pageable_bytes_per_s)
        seconds = links.latency_s + source.numel() * source.element_size() / rate
        self._pay(links.submit_s + seconds * next(self._noise))
        if inwards:
            self._memory.contents[target.data_ptr()] = Content(source)
        else:
            values = self._models.evaluate(self._memory.content(source))
            target.copy_(fit_values(values, target))

    def launch_kernel(self: Any) -> None:
        """A kernel that takes as long as any at least."""
        self._pay(self.links.launch_s)
        stream = self._current[-1]
        stream.add_kernel(self._now, self.links.kernel_s * next(self._noise))

    def free_memory_bytes(self: Any) -> int:
        """Always the same."""
        return FREE_BYTES


def fit_values(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The first values, where the target is the beginning of a larger buffer's copy."""
    if values.numel() <= target.numel():
        return values
    return values.reshape(-1)[: target.numel()].view(target.shape)
