"""Whether a study may run in a directory that already holds one, and the command to resume it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from numa_bench.errors import StoreError
from numa_bench.invocation import command_words
from numa_bench.plan.plan import Plan
from numa_bench.study_files import JOURNAL, RESULTS, read_records


def check_directory(directory: Path, plan: Plan, overrides: Sequence[str]) -> None:
    """Raise StoreError rather than mix two studies in one directory.

    A new study needs an empty directory. Overrides given when resuming may add runs
    (experiment.repeats) but must not change the runs that are already recorded.
    """
    results = directory / RESULTS
    held = results.is_file() or (directory / JOURNAL).is_file()
    if plan.debug or not held:
        return
    if plan.resume_from is None:
        raise StoreError(
            f"{directory} already holds a study; finish it with resume_from={directory}, "
            "or choose another directory"
        )
    # These settings change where results go, not what is measured.
    harmless = ("resume_from=", "output.", "dry_run=", "time_limit=")
    given = [o for o in overrides if not o.startswith(harmless)]
    try:
        recorded = {record["run_id"] for record in read_records(results)}
    except StoreError:
        return  # opening the store raises the same error, with what to do about it
    unplanned = recorded - {run.run_id for run in (*plan.runs, *plan.cut)}
    if given and unplanned:
        raise StoreError(
            f"{' '.join(given)} changes what {directory} has measured ({len(unplanned)} recorded "
            "runs would no longer belong to it); drop it, or start a new study"
        )


def resume_command(directory: Path) -> str:
    """The command that runs what is pending, quoted for Hydra's grammar and for the shell."""
    value = str(directory)
    # Other characters may be syntax in Hydra's override grammar, so they are quoted.
    if re.search(r"[^\w./:-]", value):
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return shlex.join([*command_words("run"), f"resume_from={value}"])
