"""What to do: its section of the page, its lines in the terminal, its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numa_bench.analysis.advice.result import Advice
from numa_bench.analysis.advice.text import render_advice, render_lines
from numa_bench.analysis.read.groups import describe_simulations
from numa_bench.analysis.report.blocks import Block
from numa_bench.jsonio import write_json
from numa_bench.records import JsonDict

if TYPE_CHECKING:
    from numa_bench.analysis.study_analysis import Analysis

#: For programs, and for people.
FILES = ("bindings.json", "bindings.txt")
#: Version of the format of bindings.json.
SCHEMA_VERSION = 1
#: More lines to paste are collapsed on the page: the pooled effects are below them.
_MOST_LINES = 12


def build_advice(advices: Sequence[Advice]) -> Iterator[Block]:
    """One block per machine: what to do, why, and the lines."""
    for advice in advices:
        title = advice.machine if len(advices) > 1 else ""
        code = render_lines(advice)
        tools = ", ".join(dict.fromkeys(line.tool.name for line in advice.lines))
        folded = f"Commands for {tools}" if code.count("\n") >= _MOST_LINES and tools else ""
        yield Block(title, advice.text, lines=advice.details, code=code, folded=folded)


def summarize_advice(advices: Sequence[Advice]) -> list[str]:
    """What to do in one line per machine, its name first where there are several."""
    return [f"{a.machine}: {a.text}" if len(advices) > 1 else a.text for a in advices]


def write_advice(analysis: Analysis, directory: Path) -> tuple[Path, ...]:
    """Write bindings.json and bindings.txt. Raises OSError."""
    table, text = (directory / name for name in FILES)
    simulated = describe_simulations(analysis.loaded.frame)
    contents: JsonDict = {
        "schema_version": SCHEMA_VERSION,
        "name": analysis.name,
        "created": analysis.created,
        "simulated": simulated,
        "target": analysis.target,
        "advice": [advice.to_dict() for advice in analysis.advice],
    }
    write_json(table, contents)
    text.write_text(render_advice(analysis.advice, simulated), encoding="utf-8")
    return table, text
