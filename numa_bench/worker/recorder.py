"""The worker's side of a profiler: named ranges, and the window that is recorded.

nsys sees NVTX ranges (the nvtx package: they exist without a GPU too), torch.profiler its own
record_function ranges of the same names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from numa_bench.records import PROFILED_WINDOW, ProfileSpec


class Marks(Protocol):
    """Brackets around the stages of a batch."""

    def push(self, name: str) -> None: ...

    def pop(self) -> None: ...


class NoMarks:
    """For windows that nobody looks into."""

    def push(self, name: str) -> None:
        """Nothing."""

    def pop(self) -> None:
        """Nothing."""


NO_MARKS = NoMarks()


class Recorder:
    """No profiler. `marks` are for the windows that are measured, not recorded."""

    marks: Marks = NO_MARKS

    @contextlib.contextmanager
    def mark_range(self, name: str) -> Iterator[None]:
        """A range around a whole window."""
        self.push(name)
        try:
            yield
        finally:
            self.pop()

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """Record what happens inside; gives the marks to use there."""
        with self.mark_range(PROFILED_WINDOW):
            yield self.marks

    def push(self, name: str) -> None:
        """Nothing."""

    def pop(self) -> None:
        """Nothing."""


class NsysRecorder(Recorder):
    """NVTX ranges, and nsys' capture range around the profiled window.

    With `capture="run"` nsys records everything, and the stages of every batch are marked.
    """

    def __init__(self, profile: ProfileSpec, device: Any) -> None:
        import nvtx

        self._push: Callable[[str], object] = nvtx.push_range
        self._pop: Callable[[], object] = nvtx.pop_range
        self._cuda = device.type == "cuda" and profile.capture == "window"
        if profile.capture == "run":
            self.marks = self

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """See `Recorder.window`. On the CPU the range itself starts nsys' recording."""
        import torch

        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
        try:
            with self.mark_range(PROFILED_WINDOW):
                yield self
        finally:
            if self._cuda:
                torch.cuda.profiler.stop()

    def push(self, name: str) -> None:
        """Open an NVTX range."""
        self._push(name)

    def pop(self) -> None:
        """Close the innermost NVTX range."""
        self._pop()


class TorchRecorder(Recorder):
    """torch.profiler around the profiled window; its trace goes to `path`."""

    def __init__(self, path: Path, device: Any) -> None:
        self._path = path
        self._cuda = device.type == "cuda"
        self._open: list[Any] = []

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """See `Recorder.window`. Raises OSError or RuntimeError when the trace is not written."""
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._cuda else [])]
        with profile(activities=activities) as recorded:
            self.push(PROFILED_WINDOW)
            try:
                yield self
            finally:
                self.pop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._path))

    @contextlib.contextmanager
    def mark_range(self, name: str) -> Iterator[None]:  # noqa: ARG002 - nobody records it
        """Nothing: only the profiled window is recorded."""
        yield

    def push(self, name: str) -> None:
        """Open a range of torch.profiler."""
        from torch.profiler import record_function

        opened = record_function(name)
        opened.__enter__()
        self._open.append(opened)

    def pop(self) -> None:
        """Close the innermost range."""
        self._open.pop().__exit__(None, None, None)


def make_recorder(profile: ProfileSpec, device: Any, trace: Path | None) -> Recorder:
    """The recorder that a spec asks for. `trace` is where torch.profiler's goes."""
    if profile.kind == "nsys":
        return NsysRecorder(profile, device)
    if profile.kind == "torch" and trace is not None:
        return TorchRecorder(trace, device)
    return Recorder()
