"""Whether a command's output reached its files: a full disk takes it from the command unseen."""

from __future__ import annotations

import os
from pathlib import Path

from numa_bench.records import CommandSpec
from numa_bench.records.spare_files import LEAST_ROOM, check_room


def describe_lost_output(stdout: Path) -> str:
    """Why what a command prints cannot be written, and what to do; "" if it can.

    The runner sees only whether the disk takes files now that the command has ended.
    """
    try:
        check_room(stdout.parent)
    except OSError as error:
        return (
            f"its output could not be written to {stdout.parent} ({error.strerror or error}); "
            "free some space and resume the study"
        )
    return ""


def warn_incomplete_output(command: CommandSpec, stdout: Path) -> list[str]:
    """A warning where metrics were read from output of which a full disk may have lost the end."""
    if not any(metric.regex for metric in command.metrics):
        return []
    try:
        found = os.statvfs(stdout.parent)
    except OSError:
        return []
    if found.f_bavail * found.f_frsize >= LEAST_ROOM:
        return []
    return [
        f"output: {stdout.parent} is full, so that the end of the output, with later values of "
        "the metrics, may be lost"
    ]
