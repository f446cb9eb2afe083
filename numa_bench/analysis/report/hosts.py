"""Hosts side by side, on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from numa_bench.analysis.report.blocks import Block
from numa_bench.analysis.report.columns import (
    build_table,
    format_change,
    format_probability,
    interval_column,
    number_column,
    text_column,
)
from numa_bench.analysis.report.pooled import shorten_models
from numa_bench.analysis.stats.pooled.hosts import HostComparison

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: Most rows and sentences in the terminal; the page has all.
MOST_ROWS, MOST_TEXTS = 24, 6

_COLUMNS = (
    text_column("model_text", "models", shorten_models),
    text_column("bound", "bound by"),
    text_column("placement", "placement"),
    text_column("name", "host"),
    text_column("sample", "sample"),
    number_column("ratio", "change", format_change),
    interval_column("low", "high", "95 % interval", format_change),
    text_column("outcome", "effect"),
    number_column("p_hosts", "p (hosts alike)", format_probability),
)


def build_hosts(analysis: Analysis) -> Iterator[Block]:
    """The section's blocks; none where there is one host, or nothing was measured on two."""
    hosts = analysis.hosts
    if hosts.table.empty:
        return
    shown = build_table(_COLUMNS, hosts.table, "tables/hosts.csv")
    yield Block(lines=hosts.texts)
    yield Block(table=shown, folded=f"Effects by host: {len(hosts.table)}")


def print_comparison(console: Console, hosts: HostComparison) -> None:
    """Print the sentences, and the table where it is short."""
    if hosts.table.empty:
        return
    for text in hosts.texts[:MOST_TEXTS]:
        console.print(text, soft_wrap=True)
    if len(hosts.texts) > MOST_TEXTS:
        console.print(f"{len(hosts.texts) - MOST_TEXTS} more compared effects in tables/hosts.csv")
    if len(hosts.table) > MOST_ROWS:
        return
    table = Table(title="effects by host", title_justify="left")
    for name in ("models", "bound by", "placement", "host", "sample", "change"):
        table.add_column(name, overflow="fold")
    for row in hosts.table.to_dict("records"):
        change = format_change(row["ratio"])
        size = change if row["claimed"] else f"{change} ({row['outcome']})"
        names = (str(row[key]) for key in ("bound", "placement", "name", "sample"))
        table.add_row(shorten_models(str(row["model_text"])), *names, size)
    console.print(table)
