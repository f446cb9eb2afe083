"""Inspect profiler reports: copies, compute and their overlap.

    python analysis/inspect_report.py FILE... [--window NAME|all] [--json | --csv] [--plot]
    python analysis/inspect_report.py --compare A B

FILE is a .nsys-rep (exported beside it with nsys), its SQLite export, or a trace of torch's
profiler (.json, .json.gz). docs/reading-reports.md explains every figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from numa_bench.analysis.profiles.inspection import Inspection, inspect_report
from numa_bench.analysis.profiles.pcie import parse_link
from numa_bench.errors import NumaBenchError, ReportError
from numa_bench.pcie import Link
from numa_bench.profiling.nsys import export_report
from numa_bench.terminal.lines import print_error, print_line

PICTURE = ".timeline.png"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--window",
        metavar="NAME",
        help='look at the NVTX ranges of this name only, or "all"; default: "profiled window" '
        "if the report has it, else all",
    )
    parser.add_argument("--pcie", metavar="GENxWIDTH", help="the GPU's PCIe link, such as 4x16")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON list, an object for each file")
    form.add_argument("--csv", action="store_true", help="one row for each file and GPU")
    form.add_argument("--compare", action="store_true", help="two files side by side")
    parser.add_argument(
        "--plot",
        action="store_true",
        help=f"write a timeline of each report beside it, as NAME{PICTURE}",
    )
    parser.add_argument(
        "--plot-to", metavar="PATH", type=Path, help="write the timeline of a single report to PATH"
    )
    args = parser.parse_args(argv)
    if args.compare and len(args.files) != 2:
        parser.error(f"--compare needs two files, not {len(args.files)}")
    if args.plot_to is not None and len(args.files) > 1:
        parser.error("--plot-to is for one file; --plot writes beside each")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect the files of a command line; return 0, or 2 if one could not be read."""
    args = parse_arguments(argv)
    inspections: list[Inspection] = []
    code = 0
    try:
        link = parse_link(args.pcie) if args.pcie else None
    except NumaBenchError as error:
        print_error(error)
        return error.exit_code
    for path in args.files:
        one = _inspected(path, args, link)
        if one is None:
            code = 2
            continue
        if not (args.json or args.csv or args.compare):
            _show(one, first=not inspections)
        inspections.append(one)
    if args.compare and len(inspections) == 2:
        _compare(*inspections)
    if args.json:
        _print_json(inspections)
    if args.csv:
        _print_csv(inspections)
    return code


def _inspected(path: Path, args: argparse.Namespace, link: Link | None) -> Inspection | None:
    """Inspect one file and draw its timeline; None, and a line on stderr, if that fails."""
    try:
        inspection = inspect_report(path, args.window, link, export_report)
        if args.plot or args.plot_to:
            _plot(inspection, args.plot_to or inspection.path.with_suffix(PICTURE))
    except NumaBenchError as error:
        print_error(error)
        return None
    return inspection


def _plot(inspection: Inspection, target: Path) -> None:
    from numa_bench.analysis.plots.timeline import draw_timeline  # loads matplotlib, slow

    try:
        draw_timeline(inspection, target)
    except (OSError, ValueError) as error:
        raise ReportError(f"{target}: the timeline cannot be written: {error}") from error
    print_line(f"timeline: {target}", error=True)


def _show(inspection: Inspection, first: bool) -> None:
    # Imported here: JSON and CSV need no rich.
    from numa_bench.analysis.profiles.terminal import make_console
    from numa_bench.analysis.profiles.view import print_inspection

    screen = make_console()
    if not first:
        screen.rule(style="dim")
    print_inspection(screen, inspection)


def _compare(a: Inspection, b: Inspection) -> None:
    from numa_bench.analysis.profiles.compare import print_comparison
    from numa_bench.analysis.profiles.terminal import make_console

    print_comparison(make_console(), a, b)


def _print_json(inspections: list[Inspection]) -> None:
    import json

    from numa_bench.jsonio import replace_non_finite

    print(
        json.dumps(
            replace_non_finite([one.to_dict() for one in inspections]), indent=1, allow_nan=False
        )
    )


def _print_csv(inspections: list[Inspection]) -> None:
    import csv

    rows = [row for one in inspections for row in one.to_rows()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
