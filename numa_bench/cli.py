"""The installed command: numa-bench COMMAND ARGUMENTS...

The arguments are passed to the command unchanged: Hydra overrides for `run` and `analyze`,
options for the others.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass

from numa_bench import __version__


@dataclass(frozen=True)
class Command:
    """One command: the module whose `main()` parses sys.argv, and its line in --help."""

    module: str
    summary: str


COMMANDS = {
    "run": Command("numa_bench.commands.run", "run a study (hydra_experiment_runner.py)"),
    "check": Command("numa_bench.commands.check", "check settings and machine; run nothing"),
    "resume": Command("numa_bench.commands.resume", "print or run what finishes a study or sweep"),
    "compare-placements": Command(
        "numa_bench.commands.compare_placements", "run any command under each placement"
    ),
    "analyze": Command(
        "numa_bench.commands.analyze", "compare placements: verdict, plots, a report page"
    ),
    "inspect": Command(
        "numa_bench.commands.inspect", "show copies and compute in profiler reports"
    ),
    "topology": Command(
        "numa_bench.machine.topology_view", "show NUMA nodes and GPUs of this machine"
    ),
    "selftest": Command(
        "numa_bench.selftest.command", "check this host and this installation before measuring"
    ),
    "collect": Command(
        "numa_bench.commands.collect", "copy studies of several hosts into one directory"
    ),
    "sync": Command("numa_bench.commands.sync", "log stored studies to MLflow and others"),
}


def main() -> int:
    """Run the command named in sys.argv; return its exit code."""
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog="numa-bench",
        description="Does NUMA placement matter for my GPU pipeline on this machine?",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}{c.summary}" for name, c in COMMANDS.items())
        + "\n\n`numa-bench COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"numa-bench {__version__}")
    parser.add_argument(
        "command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below"
    )
    # Parse only the first argument; the command parses its own options.
    name = parser.parse_args(sys.argv[1:2]).command
    del sys.argv[1]
    code: int = importlib.import_module(COMMANDS[name].module).main()
    return code
