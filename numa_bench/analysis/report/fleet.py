"""Hosts that were analysed one after the other (partition_by=host): tables, and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numa_bench.analysis.report.hosts import print_comparison
from numa_bench.analysis.report.terminal import print_problems
from numa_bench.analysis.stats.pooled.partitions import Fleet
from numa_bench.errors import StoreError
from numa_bench.jsonio import write_json
from numa_bench.records import JsonDict
from numa_bench.terminal.console import open_stdout

#: Most verdicts in the terminal; verdict.json has all.
_MOST_VERDICTS = 12
#: Version of the format of verdict.json.
SCHEMA_VERSION = 1


def write_fleet(fleet: Fleet, directory: Path, about: Mapping[str, str | float]) -> None:
    """Write tables/hosts.csv, pooled.csv and groups.csv, and verdict.json, which begins with
    `about`. Raises StoreError when the directory cannot be written."""
    tables = directory / "tables"
    try:
        tables.mkdir(parents=True, exist_ok=True)
        pooled = fleet.pooled.drop(columns="models", errors="ignore")
        for name, table in (("hosts", fleet.hosts.table), ("pooled", pooled)):
            table.to_csv(tables / f"{name}.csv", index=False)
        fleet.groups.to_csv(tables / "groups.csv", index=False)
        verdict: JsonDict = {
            "schema_version": SCHEMA_VERSION,
            **about,
            "runs": fleet.runs,
            "confounded": list(fleet.confounded),
            "hosts": {"texts": list(fleet.hosts.texts)},
            "verdicts": [
                {"group": group, "name": fleet.names[group], "text": text}
                for group, text in fleet.verdicts.items()
            ],
            "problems": [problem.to_dict() for problem in fleet.problems],
        }
        write_json(directory / "verdict.json", verdict)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be written: {error.strerror or error}") from error


def print_fleet(fleet: Fleet, directory: Path) -> None:
    """Print verdicts, the comparison of the hosts, and where the tables are."""
    console = open_stdout()
    hosts = fleet.groups["host"].nunique() if len(fleet.groups) else 0
    console.print(f"{fleet.runs} runs of {hosts} hosts, one host after the other", soft_wrap=True)
    for text in fleet.confounded[:_MOST_VERDICTS]:
        console.print(text, style="bold", soft_wrap=True)
    if len(fleet.confounded) > _MOST_VERDICTS:
        console.print(f"{len(fleet.confounded) - _MOST_VERDICTS} more such sweeps in verdict.json")
    for group, text in list(fleet.verdicts.items())[:_MOST_VERDICTS]:
        console.print(f"{fleet.names[group]}: {text}", style="bold", soft_wrap=True)
    if len(fleet.verdicts) > _MOST_VERDICTS:
        console.print(f"{len(fleet.verdicts) - _MOST_VERDICTS} more verdicts in verdict.json")
    print_comparison(console, fleet.hosts)
    print_problems(console, fleet.problems)
    console.print(f"verdicts  {directory / 'verdict.json'}", soft_wrap=True)
    console.print(f"tables    {directory / 'tables'}", soft_wrap=True)
