"""What the checks ask of torch that no part of a run needs, so `CudaRuntime` does not have it."""

from __future__ import annotations

from collections.abc import Callable

import torch


class TorchTools:
    """Pinned memory of torch's own, and torch's profiler, on a real CUDA device."""

    def pin_memory(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in memory that the driver allocated (cudaHostAlloc)."""
        return tensor.pin_memory()

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether CUDA copies from and to this memory without staging."""
        return tensor.is_pinned()

    def profile_copies(self, submit: Callable[[], None]) -> dict[str, list[float]]:
        """Run `submit`, which also synchronises, under torch's profiler; the durations that it
        gives to copies, in milliseconds, as {"H2D": [...], "D2H": [...]}."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            submit()
        names = {"H2D": "Memcpy HtoD", "D2H": "Memcpy DtoH"}
        return {
            stage: [
                event.time_range.elapsed_us() / 1e3
                for event in recorded.events()
                if event.name.startswith(name)
            ]
            for stage, name in names.items()
        }
