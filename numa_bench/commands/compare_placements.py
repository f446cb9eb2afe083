"""Compare placements of any command in one line: numa-bench compare-placements ... -- COMMAND.

Thin: its options become settings of a command study, which the runner runs and the analysis judges.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numa_bench.invocation import command_text, quote_value
from numa_bench.study_files import read_records
from numa_bench.study_search import find_studies

STUDY = "command_study"
_CPU = ("cpu", "none")


@dataclass(frozen=True)
class _Option:
    """An option that sets one setting. `kind`: how its text becomes a value."""

    flag: str
    key: str
    metavar: str
    help: str
    kind: str = "text"


_OPTIONS = (
    _Option(
        "--nodes",
        "experiment.hardware.numa_nodes",
        "LIST",
        "placements: local, remote, unbound, all, same_socket, other_socket or node numbers, with "
        "commas (default: local, remote where there is another node, unbound)",
        "list",
    ),
    _Option("--repeats", "experiment.repeats", "N", "runs of each placement (default: 5)", "plain"),
    _Option(
        "--name", "experiment.command.name", "NAME", "its name in tables (default: the program's)"
    ),
    _Option(
        "--warmup",
        "experiment.command.warmup",
        "N",
        "executions before each measured one, kept apart",
        "plain",
    ),
    _Option("--prepare", "experiment.command.prepare", "COMMAND", "before each execution"),
    _Option("--cleanup", "experiment.command.cleanup", "COMMAND", "after each execution"),
    _Option(
        "--check",
        "experiment.command.check",
        "COMMAND",
        "after each measured execution; if it fails, the run is invalid",
    ),
    _Option(
        "--placement-check",
        "experiment.command.placement_check",
        "WORD",
        "runs with memory or threads elsewhere: invalid, warning (programs that bind themselves), "
        "off (default: invalid)",
        "plain",
    ),
    _Option(
        "--timeout",
        "experiment.test.timeout_s",
        "SECONDS",
        "longest execution (default: 900)",
        "plain",
    ),
    _Option("--time-limit", "time_limit", "DURATION", "longest study, such as 1h", "plain"),
    _Option("--output", "output.root", "DIR", "output root (default: outputs)"),
)


def main() -> int:
    """Run this process's command line; return the exit code of the study, or of its analysis."""
    options, overrides = parse_arguments(sys.argv[1:])
    root = Path(options.output or "outputs")
    earlier = set(find_studies(root / STUDY))
    from numa_bench.commands import run

    sys.argv[1:] = overrides
    code = run.main()
    studies = sorted(set(find_studies(root / STUDY)) - earlier)
    if options.dry_run or not studies or not _has_passed(studies[-1]):
        return code
    # In a process of its own: Hydra has one application per process.
    analysis = subprocess.run(
        [sys.executable, "-m", "numa_bench", "analyze", *analysis_overrides(studies[-1], root)],
        check=False,
    )
    return code or analysis.returncode


def analysis_overrides(study: Path, root: Path) -> list[str]:
    """The settings of the analysis of one study."""
    return [f"results=[{quote_value(str(study))}]", f"root={quote_value(str(root))}"]


def _has_passed(study: Path) -> bool:
    return any(record["success"] for record in read_records(study / "results.json"))


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the overrides of the runner that they mean.

    Words after -- are the command. Exits with 2 for a wrong command line, as argparse does.
    """
    parser = _make_parser()
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:at])
    command = words[at + 1 :]
    if not command:
        parser.error("no command; write it after --, such as: -- python train.py --steps 200")
    if options.shell and len(command) > 1:
        parser.error("with --shell the command is one text: -- 'a | b'")
    return options, _list_overrides(options, command)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command_text("compare-placements"),
        description="Run a command under each NUMA placement, in random order, and say whether "
        "placement matters for it.",
        usage="%(prog)s [options] -- COMMAND [ARGUMENT ...]",
        epilog="The command runs unchanged, without a shell. {gpu}, {gpus}, {gpu_uuid}, "
        "{node}, {nodes} and {out} in it are filled in. Exit codes are those of a study: 0, 1 if a "
        "run failed, 2 for a command or option that cannot be used. See docs/own-workloads.md.",
    )
    for option in _OPTIONS:
        parser.add_argument(option.flag, metavar=option.metavar, help=option.help)
    parser.add_argument(
        "--gpus",
        metavar="LIST",
        help="GPUs by number, one run each, with commas; 0+4: one run that sees both; cpu: none "
        "(default: all)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME:BETTER:UNIT=REGEX",
        action="append",
        default=[],
        help="a number in the output, such as 'rate:higher:tok/s=([0-9.]+) tok/s'; the first one "
        "is compared (default: the wall time, lower is better). May be given several times",
    )
    parser.add_argument(
        "--variant",
        metavar="NAME=ARGUMENTS",
        action="append",
        default=[],
        help="arguments added to the command, as a variant of it: twice or more, such as --variant "
        "plain= --variant bound=--numa-bind; the first one is compared to",
    )
    parser.add_argument(
        "--shell", action="store_true", help="the command is one text for /bin/sh -c"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the runs, run nothing")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="any other setting of a study, such as experiment.order_seed=1",
    )
    return parser


def _list_overrides(options: argparse.Namespace, command: Sequence[str]) -> list[str]:
    overrides = [f"experiment={STUDY}"]
    for option in _OPTIONS:
        value = getattr(options, option.flag.strip("-").replace("-", "_"))
        if value is not None:
            overrides.append(f"{option.key}={_format_value(value, option.kind)}")
    if options.gpus is not None:
        cpu = options.gpus in _CPU
        overrides.append(
            "experiment.hardware.device=cpu"
            if cpu
            else f"experiment.hardware.gpu_ids={_format_value(options.gpus, 'list')}"
        )
    if options.metric:
        overrides.append(f"experiment.command.metrics=[{_join(options.metric)}]")
    if options.variant:
        variants = (text.partition("=") for text in options.variant)
        pairs = ",".join(f"{quote_value(name)}:{quote_value(own)}" for name, _, own in variants)
        overrides.append(f"experiment.command.variants={{{pairs}}}")
    if options.shell:
        overrides += ["experiment.command.shell=true", f"command={quote_value(command[0])}"]
    else:
        overrides.append(f"command=[{_join(command)}]")
    if options.dry_run:
        overrides.append("dry_run=true")
    return [*overrides, *options.set]


def _format_value(text: str, kind: str) -> str:
    if kind == "list":
        return f"[{_join([part for part in text.split(',') if part])}]"
    return text if kind == "plain" else quote_value(text)


def _join(texts: Sequence[str]) -> str:
    return ",".join(map(quote_value, texts))
