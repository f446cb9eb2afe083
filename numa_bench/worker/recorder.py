"""The worker's side of a profiler: named ranges, and the window that is recorded.

nsys sees NVTX ranges (the nvtx package: they exist without a GPU too), torch.profiler its own
record_function ranges of the same names.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from numa_bench.records import PROFILED_WINDOW, ProfileSpec
from numa_bench.worker.cuda_runtime import CudaRuntime


class Marks(Protocol):
    """Brackets around the stages of a batch, and around the submissions of a whole window."""

    def push(self, name: str) -> None: ...

    def pop(self) -> None: ...

    def open_window(self) -> None: ...

    def close_window(self) -> None: ...


class NoMarks:
    """For windows that are not recorded."""

    def push(self, name: str) -> None:
        """Do nothing."""

    def pop(self) -> None:
        """Do nothing."""

    def open_window(self) -> None:
        """Do nothing."""

    def close_window(self) -> None:
        """Do nothing."""


NO_MARKS = NoMarks()


class RangeMarks:
    """Ranges of a profiler. `window` names the range around a window; None: no such range."""

    def __init__(
        self, push: Callable[[str], object], pop: Callable[[], object], window: str | None
    ) -> None:
        self._push = push
        self._pop = pop
        self._window = window

    def push(self, name: str) -> None:
        """Open a range."""
        self._push(name)

    def pop(self) -> None:
        """Close the innermost range."""
        self._pop()

    def open_window(self) -> None:
        """Open the range around a window."""
        if self._window is not None:
            self._push(self._window)

    def close_window(self) -> None:
        """Close the range around a window."""
        if self._window is not None:
            self._pop()


class Recorder:
    """No profiler. `marks` are for the windows that are measured, not recorded."""

    marks: Marks = NO_MARKS

    @contextlib.contextmanager
    def mark_range(self, name: str) -> Iterator[None]:  # noqa: ARG002 - nothing records it
        """A range around warm-up or the timed window."""
        yield

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """Record what happens inside; yields the marks to use there."""
        yield self.marks


class NsysRecorder(Recorder):
    """NVTX ranges, and nsys' capture range around the profiled window.

    With `capture="run"` nsys records everything, and the stages of every batch are marked. Raises
    ImportError without the nvtx package.
    """

    def __init__(self, profile: ProfileSpec, runtime: CudaRuntime | None) -> None:
        # Not torch.cuda.nvtx, which raises in torch's CPU build.
        import nvtx

        self._push: Callable[[str], object] = nvtx.push_range
        self._pop: Callable[[], object] = nvtx.pop_range
        # Only a window has a capture range that CUDA must open.
        self._runtime = runtime if profile.capture == "window" else None
        if profile.capture == "run":
            self.marks = RangeMarks(self._push, self._pop, None)

    @contextlib.contextmanager
    def mark_range(self, name: str) -> Iterator[None]:
        """See `Recorder.mark_range`."""
        self._push(name)
        try:
            yield
        finally:
            self._pop()

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """See `Recorder.record_window`. On the CPU the window's range starts nsys' recording."""
        if self._runtime is not None:
            # Work that is still queued would be recorded as part of the window.
            self._runtime.synchronize()
            self._runtime.start_capture()
        try:
            yield RangeMarks(self._push, self._pop, PROFILED_WINDOW)
        finally:
            if self._runtime is not None:
                self._runtime.stop_capture()


class TorchRecorder(Recorder):
    """torch.profiler around the profiled window; its trace goes to `path`.

    Made before the model is compiled: initialising the profiler after a CUDA graph was captured
    can hang (pytorch issues 75504 and 100441). `all_threads`: ranges of other threads than the one
    that records are recorded, too.
    """

    def __init__(
        self, path: Path, runtime: CudaRuntime | None, *, all_threads: bool = False
    ) -> None:
        from torch.profiler import ProfilerActivity, profile

        self._config: Any = None
        if all_threads:
            from torch._C._profiler import _ExperimentalConfig

            # Without it a profiler sees its own thread only (torch.profiler, experimental_config).
            self._config = _ExperimentalConfig(profile_all_threads=True)

        self._path = path
        # Each thread's open ranges, innermost last: record_function closes by object, the marks by
        # order.
        self._open = threading.local()
        self._activities = [ProfilerActivity.CPU]
        if runtime is not None and runtime.device.type == "cuda":
            self._activities.append(ProfilerActivity.CUDA)
            with profile(activities=self._activities):
                runtime.synchronize()

    @contextlib.contextmanager
    def record_window(self) -> Iterator[Marks]:
        """See `Recorder.record_window`. Raises OSError or RuntimeError if the trace cannot be
        written."""
        from torch.profiler import profile

        with profile(activities=self._activities, experimental_config=self._config) as recorded:
            yield RangeMarks(self._open_range, self._close_range, PROFILED_WINDOW)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._path))

    def _open_range(self, name: str) -> None:
        from torch.profiler import record_function

        opened = record_function(name)
        opened.__enter__()
        self._open.ranges = [*getattr(self._open, "ranges", []), opened]

    def _close_range(self) -> None:
        self._open.ranges.pop().__exit__(None, None, None)


def make_recorder(
    profile: ProfileSpec,
    runtime: CudaRuntime | None,
    trace: Path | None,
    *,
    all_threads: bool = False,
) -> Recorder:
    """The recorder that a spec asks for. `trace` is where torch.profiler's goes; `all_threads`:
    stages are marked by more threads than the calling one.

    Raises ImportError when its package is missing.
    """
    if profile.kind == "nsys":
        return NsysRecorder(profile, runtime)
    if profile.kind == "torch" and trace is not None:
        return TorchRecorder(trace, runtime, all_threads=all_threads)
    return Recorder()
