"""Print, or run, the command that finishes a study or a sweep: numa-bench resume DIR."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from numa_bench.commands.resumed_sweep import find_whole_sweep, list_unfinished_jobs
from numa_bench.config.hydra import app as hydra_app
from numa_bench.config.hydra.composition import list_sweep_jobs
from numa_bench.config.hydra.overrides import to_dotted_key
from numa_bench.errors import ConfigError, NumaBenchError
from numa_bench.invocation import command_text, resume_arguments, resume_command
from numa_bench.runner.resume import count_stored
from numa_bench.terminal.lines import print_error, print_line

#: What makes the runner submit its jobs to SLURM.
SLURM = ("-m", "hydra/launcher=slurm")
#: How Python decodes names of files that are not UTF-8 (PEP 383).
_RAW = "surrogateescape"


def main() -> int:
    """Run this process's command line; return 0, 2 for a wrong directory, or the run's code."""
    options = _parse_arguments()
    hydra_app.register_hydra()
    directory = Path(options.directory)
    try:
        changes = split_overrides(options.new_overrides)
        state, anything_left = describe_state(directory, changes)
    except NumaBenchError as error:
        print_error(error)
        return 2
    # Beside the command, so that a shell can run what is on stdout.
    print_line(state, error=True)
    if not anything_left:
        return 0
    extra = [*(SLURM if options.slurm else ()), *changes]
    if not options.run:
        # Names of files need not be valid UTF-8.
        sys.stdout.buffer.write((resume_command(directory, extra) + "\n").encode(errors=_RAW))
        return 0
    from numa_bench.commands import run

    sys.argv[1:] = [*resume_arguments(directory), *extra]
    return run.main()


def split_overrides(text: str) -> list[str]:
    """The overrides in a text, split as a shell does. Raises ConfigError."""
    try:
        return [to_dotted_key(word) for word in shlex.split(text)]
    except ValueError as error:
        raise ConfigError("--new-overrides", text, f"{error}; quote it as for a shell") from error


def describe_state(directory: Path, changes: Sequence[str]) -> tuple[str, bool]:
    """How far a study or sweep is, in one line, and whether anything is left.

    `changes` are overrides that may add runs. Raises ConfigError for a directory without either,
    StoreError if its files cannot be read.
    """
    sweep = find_whole_sweep(directory)
    if sweep is not None:
        total = len(list_sweep_jobs(sweep))
        left = len(list_unfinished_jobs(sweep, changes))
        if not left:
            return f"nothing left: all {total} jobs of {directory} are finished", False
        return f"{left} of {total} jobs left", True
    try:
        hydra_app.check_resumable(directory)
    except ConfigError as error:
        raise ConfigError("DIR", error.value, error.fix) from error
    stored = count_stored(directory)
    if stored.is_finished and not changes:
        return f"nothing left: {stored.done} of {stored.planned} runs passed or were waived", False
    if not stored.planned:
        return "no run has started", True
    return f"{stored.planned - stored.done} of {stored.planned} runs left", True


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command_text("resume"),
        description="Print the command that finishes a study, or a sweep, from its directory.",
        epilog="Exit code 0: the command was printed, or nothing is left. 2: there is no study. "
        "With --run the exit code is that of the run.",
    )
    parser.add_argument("directory", metavar="DIR", help="directory of a study or of a sweep")
    parser.add_argument("--slurm", action="store_true", help="submit it to SLURM")
    parser.add_argument(
        "--new-overrides",
        metavar='"KEY=VALUE ..."',
        default="",
        help="settings to change, such as experiment.repeats=5 to add repeats",
    )
    parser.add_argument("--run", action="store_true", help="run the command")
    return parser.parse_args()
