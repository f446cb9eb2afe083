"""What a bandwidth study needs of the timing simulation beside the pipeline's calls."""

from __future__ import annotations

from typing import Any

import torch

#: Free device memory that is reported.
FREE_BYTES = 80_000_000_000


class PlainCopies:
    """See `numa_bench.worker.bandwidth.copy_runtime.CopyRuntime`; mixed into `TimingRuntime`."""

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
