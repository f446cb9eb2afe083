"""The selftest's command line: choose GPU and node, run the checks there, show and store verdicts.

    python -m numa_bench.selftest [--full] [--gpu N] [--only NAME] [--json PATH] [--list]

Exit code 0: no check failed; 1: one did; 2: the command line, or the machine, is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from numa_bench.config.schemas.isolation import IsolationConfig
from numa_bench.errors import ConfigError, NumaBenchError
from numa_bench.invocation import command_text
from numa_bench.isolation.host_locks import hold_host
from numa_bench.jsonio import write_json
from numa_bench.machine.backend import current_backend
from numa_bench.machine.environment import describe_environment
from numa_bench.machine.topology import discover_topology
from numa_bench.records import JsonDict
from numa_bench.selftest.checks import Check, Outcome
from numa_bench.selftest.registry import list_checks
from numa_bench.selftest.report import (
    decide_exit_code,
    describe_subject,
    make_document,
    make_table,
    summarise_outcomes,
)
from numa_bench.selftest.session import plan_session
from numa_bench.selftest.supervisor import supervise_checks
from numa_bench.terminal.console import CleanConsole
from numa_bench.terminal.lines import print_error
from numa_bench.versions import PROJECT

#: Shells use it for a process that SIGINT ended (128 + 2).
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the selftest; return its exit code."""
    options = _parse_arguments(argv)
    try:
        checks = select_checks(list_checks(), options.only)
        if options.list:
            _print_list(checks)
            return 0
        return _run(checks, options)
    except NumaBenchError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED


def select_checks(checks: Sequence[Check], wanted: Sequence[str]) -> list[Check]:
    """The checks with these names, in their own order; all if none is named. Raises ConfigError."""
    names = [check.name for check in checks]
    for name in wanted:
        if name not in names:
            raise ConfigError("--only", name, f"no such check; use one of: {', '.join(names)}")
    return [check for check in checks if not wanted or check.name in wanted]


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command_text("selftest"),
        description="Check this host and this installation: named checks with figure, limit and "
        "verdict. Takes under five minutes with a GPU, under one minute without.",
        epilog="Exit code 0: no check failed, 1: one did, 2: wrong command line or machine.",
    )
    parser.add_argument(
        "--full", action="store_true", help="also compile in each mode, and check the profilers"
    )
    parser.add_argument(
        "--gpu", metavar="N", help="number or UUID of the GPU to measure (default: the first)"
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="only this check; repeatable"
    )
    parser.add_argument(
        "--json",
        "--output",
        dest="json",
        type=Path,
        metavar="PATH",
        help="the JSON file to write (default: outputs/selftest/TIME.json)",
    )
    parser.add_argument("--list", action="store_true", help="list the checks and run none")
    return parser.parse_args(argv)


def _print_list(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.name:{width}}  {check.question}{' (--full)' if check.full_only else ''}")


def _run(checks: Sequence[Check], options: argparse.Namespace) -> int:
    begin, begin_s = datetime.now(timezone.utc), time.monotonic()
    path = options.json or Path("outputs", "selftest", f"{begin:%Y-%m-%d_%H-%M-%S}.json")
    if path.is_dir():
        raise ConfigError("--json", path, "is a directory; name a file")
    topology = discover_topology()
    status_line = CleanConsole(stderr=True, markup=False, emoji=False, highlight=False)
    with status_line.status("looking at the machine") as status:
        session = plan_session(topology, options.gpu, full=options.full)
        # Its figures are worth nothing beside a study, nor are those of a study beside it.
        with hold_host(IsolationConfig(), status.update):
            outcomes = supervise_checks(checks, session, os.environ, status.update)
        environment = describe_environment(PROJECT, topology)
    document = make_document(
        outcomes,
        session,
        environment=environment,
        begin=begin,
        seconds=time.monotonic() - begin_s,  # the wall clock may be set meanwhile
        simulated=current_backend().simulated,
    )
    _show(outcomes, f"selftest of {describe_subject(session)}", current_backend().simulated)
    _write(path, document)
    return decide_exit_code(outcomes)


def _show(outcomes: Sequence[Outcome], title: str, simulated: str | None) -> None:
    console = CleanConsole(markup=False, emoji=False, highlight=False)
    table = make_table(outcomes, title)
    # In a pipe rich assumes 80 columns and folds every note; long lines are easier to search.
    if not console.is_terminal:
        console.width = console.measure(
            table, options=console.options.update(max_width=10_000)
        ).maximum
    console.print(table)
    if simulated is not None:
        console.print(f"not a measurement: {simulated}", soft_wrap=True)
    console.print(summarise_outcomes(outcomes), soft_wrap=True)


def _write(path: Path, document: JsonDict) -> None:
    try:
        write_json(path, document)
    except OSError as error:
        raise ConfigError("--json", path, f"cannot be written: {error.strerror}") from error
    print(f"results  {path}")
