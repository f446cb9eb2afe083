"""The block for a pull request, in at most `MOST_LINES` lines whatever the study. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import pandas as pd

from numa_bench.analysis.read.groups import describe_simulations
from numa_bench.analysis.report.markdown.facts import list_commands, list_facts
from numa_bench.analysis.report.markdown.tables import (
    MOST_ROWS,
    Table,
    tabulate_changes,
    tabulate_group,
)
from numa_bench.analysis.report.markdown.text import (
    escape_text,
    format_command,
    join_names,
    shorten_paths,
)

if TYPE_CHECKING:
    from numa_bench.analysis.stats.compare.studies import Comparison
    from numa_bench.analysis.stats.verdicts import StudyVerdict
    from numa_bench.analysis.study_analysis import Analysis

#: A reviewer reads one screen.
MOST_LINES = 40
#: Most groups with a part of their own, most sentences below a verdict, and the fewest rows of a
#: table for which another group is shown.
_MOST_GROUPS, _MOST_DETAILS, _LEAST_ROWS = 4, 3, 3
#: Longest verdict and longest sentence below it, in characters.
_HEADLINE_WIDTH, _DETAIL_WIDTH = 900, 300
#: Most settings that differ between two studies, and names that they have in the block.
_MOST_DIFFERENCES = 8
_LABELS = {"gpu_name": "GPU", "pcie_link_max": "fastest PCIe link", "pcie_link": "PCIe link"}


@dataclass(frozen=True)
class _Part:
    """A verdict with what supports it; `group` names its runs where there are several groups."""

    group: str
    headline: str
    details: Sequence[str]
    table: Table | None
    facts: Sequence[str]

    def write(self, rows: int, details: int) -> list[str]:
        group = f"{self.group}: " if self.group else ""
        lines = [f"**{group}{escape_text(self.headline, _HEADLINE_WIDTH)}**", ""]
        shown = [f"- {escape_text(d, _DETAIL_WIDTH)}" for d in self.details[:details]]
        lines += [*shown, ""] if shown else []
        if self.table is not None:
            lines += [*self.table.write(rows), ""]
            if left_out := self.table.count_left_out(rows):
                lines.append(f"- {left_out} more rows of the table are on the page.")
        return [*lines, *self.facts, ""]


def render_block(analysis: Analysis) -> str:
    """The block as GitHub-flavoured Markdown, at most `MOST_LINES` lines, with a final newline.

    Names of hosts are left out, paths in commands are shortened, names are escaped.
    """
    comparison = analysis.comparison
    if comparison is not None:
        parts, total = [_make_comparison(analysis, comparison)], 1
    else:
        verdicts = analysis.study_verdicts
        several = len(verdicts) > 1
        parts = [_make_part(analysis, v, several) for v in verdicts[:_MOST_GROUPS]]
        total = len(verdicts)
    head, tail = _write_head(analysis), _write_commands(analysis)
    lines = _fit(parts, total, MOST_LINES - len(head) - len(tail))
    return "\n".join([*head, *lines, *tail]) + "\n"


def _fit(parts: Sequence[_Part], total: int, room: int) -> list[str]:
    """As many parts as fit, then as many rows, then as many details."""
    for count in range(len(parts), 0, -1):
        least = _LEAST_ROWS if count > 1 else 0
        for rows, details in product(range(MOST_ROWS, least - 1, -1), range(_MOST_DETAILS, -1, -1)):
            lines = [line for part in parts[:count] for line in part.write(rows, details)]
            if count < total:
                lines += [f"{total - count} of {total} groups of runs are only on the page.", ""]
            if len(lines) <= room:
                return lines
    return ["**No verdict: there are no runs.**", ""]


def _write_head(analysis: Analysis) -> list[str]:
    """The title, and below it what weakens all figures."""
    if analysis.comparison is not None:
        title = f"NUMA benchmark, {shorten_paths(analysis.name)}"
    else:
        names = dict.fromkeys(study.name for study in analysis.loaded.studies)
        title = f"NUMA benchmark, {', '.join(names)}"
    texts = [" ".join(describe_simulations(analysis.loaded.frame))]
    texts += [shorten_paths(sweep.warning) for sweep in analysis.sequential]
    remark = [part for t in texts if t for part in (f"**{escape_text(t, _HEADLINE_WIDTH)}**", "")]
    return [f"### {escape_text(title, 120)}", "", *remark]


def _write_commands(analysis: Analysis) -> list[str]:
    """How the studies and this analysis were started."""
    commands = list_commands(analysis.loaded)
    shown = commands[:1] or ["# the study's command was not recorded"]
    if len(commands) > 1:
        shown[0] += f"  # and {len(commands) - 1} more commands"
    return ["```bash", *shown, format_command(analysis.command), "```"]


def _make_part(analysis: Analysis, verdict: StudyVerdict, several: bool) -> _Part:
    frame = analysis.loaded.frame
    runs = frame[frame["group"] == verdict.group]
    return _Part(
        group=_name_group(runs) if several else "",
        headline=verdict.text,
        details=verdict.details,
        table=tabulate_group(analysis, verdict.group),
        facts=list_facts(runs, analysis.loaded),
    )


def _name_group(runs: pd.DataFrame) -> str:
    """What runs of a group have in common, without the host."""
    first = runs.iloc[0]
    names = [first["gpu_name"] if pd.notna(first["gpu_name"]) else "CPU"]
    names += [f"{w} {first[k]}" for w, k in _VERSIONS.items() if pd.notna(first[k])]
    if first["profiler"] != "none":
        names.append(f"profiler {first['profiler']}")
    return join_names(names, len(names))


#: Versions that tell groups apart.
_VERSIONS = {"driver": "env_nvidia_driver", "torch": "env_torch", "kernel": "env_kernel"}


def _make_comparison(analysis: Analysis, comparison: Comparison) -> _Part:
    frame = analysis.loaded.frame
    group = frame["group"].iloc[0]
    facts = [_describe_differences(comparison.differences)]
    facts += list_facts(frame[frame["group"] == group], analysis.loaded)
    if frame["group"].nunique() > 1:
        facts.append(f"- The facts are of the first of {frame['group'].nunique()} groups of runs.")
    table = tabulate_changes(comparison.table)
    if table is None:
        facts.insert(0, f"- **Changed cells:** none of {len(comparison.table)}.")
    return _Part("", comparison.text, comparison.details, table, facts)


def _describe_differences(differences: pd.DataFrame) -> str:
    """What else differs between the sides; of a host only that it is not the same."""
    # The id of an environment says nothing to a reader, unless nothing else differs.
    known = [row for row in differences.to_dict("records") if row["key"] != "environment"]
    if not known and not differences.empty:
        known = [{"key": "other settings or packages (see the page)"}]
    texts = []
    for row in known[:_MOST_DIFFERENCES]:
        name = str(row["key"]).removeprefix("env_")
        name = _LABELS.get(name, name.replace("_", " "))
        sides = [side for side in ("before", "after") if side in row and name != "host"]
        values = [f" {escape_text(row[side]) or 'unknown'} {side}" for side in sides]
        texts.append(escape_text(name) + ",".join(values))
    if len(known) > _MOST_DIFFERENCES:
        texts.append(f"{len(known) - _MOST_DIFFERENCES} more on the page")
    return f"- **Differs between before and after:** {'; '.join(texts) or 'nothing on record'}."
