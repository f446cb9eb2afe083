"""What the job of a sweep reports to the sweep's process, which alone writes on the terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numa_bench.plan.plan import Plan
from numa_bench.records import Record, RunSpec
from numa_bench.runner.display.console import Reporter, result_line


class EventStream:
    """One JSON object a line, into a pipe that the sweep's process reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, event: str, **fields: Any) -> None:
        """Report an event. Nothing happens if the sweep's process has gone."""
        line = json.dumps({"event": event, **fields}) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            return


class EventReporter(Reporter):
    """Writes plain lines, which go to the job's log, and reports to the sweep."""

    def __init__(self, plan: Plan, stream: EventStream) -> None:
        super().__init__(plan, bar=False)
        self._stream = stream
        self._warnings = _WarningHandler(stream)

    def __enter__(self) -> EventReporter:
        super().__enter__()
        logging.getLogger().addHandler(self._warnings)
        return self

    def __exit__(self, *error: Any) -> None:
        logging.getLogger().removeHandler(self._warnings)
        super().__exit__(*error)

    def show_start(self, plan: Plan, pending: Sequence[RunSpec], directory: Path) -> None:
        """Report how many runs there are and what the rest takes."""
        super().show_start(plan, pending, directory)
        self._stream.send("start", runs=len(pending), left_s=self.left_s())

    def show_run_start(self, spec: RunSpec) -> None:
        """Report that a run starts."""
        super().show_run_start(spec)
        self._stream.send("run", text=spec.run_id)

    def show_wait(self, text: str) -> None:
        """Report that the study waits for its turn on the host; an empty text ends that."""
        super().show_wait(text)
        self._stream.send("wait" if text else "run", text=text or self.running)

    def show_run_end(self, record: Record) -> None:
        """Report how a run ended."""
        super().show_run_end(record)
        self._stream.send(
            "end", status=record["status"], text=result_line(record), left_s=self.left_s()
        )


class _WarningHandler(logging.Handler):
    """Reports warnings, but not those about the end of a run, which is an event of its own."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "status"):
            self._stream.send("warning", text=record.getMessage())


_stream: EventStream | None = None


def connect_events(descriptor: int) -> EventStream:
    """Report what studies in this process do through a descriptor from now on."""
    global _stream
    _stream = EventStream(descriptor)
    return _stream


def make_reporter(plan: Plan) -> Reporter:
    """A bar on a terminal, plain lines elsewhere, or what `output.progress` asks for.

    The job of a sweep reports to the sweep instead.
    """
    if _stream is not None:
        return EventReporter(plan, _stream)
    return Reporter(plan, bar=wants_bar(plan.output.progress))


def wants_bar(progress: str) -> bool:
    """Whether to draw a bar; `progress` is output.progress."""
    return progress == "bar" or (progress == "auto" and sys.stderr.isatty())
