"""Advice as text: the lines as they are, all else as comments, so that the whole can be pasted."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from numa_bench.analysis.advice.bindings import TOOLS, Line
from numa_bench.analysis.advice.result import Advice

_WIDTH = 98


def render_advice(advices: Sequence[Advice], remarks: Sequence[str] = ()) -> str:
    """All advice, each with the lines of every tool; `remarks` come first."""
    blocks = ["\n".join(_comment(remark)) for remark in remarks]
    blocks += [render_one(advice) for advice in advices]
    return "\n\n".join(blocks or ["# No advice: there are no runs."]) + "\n"


def render_one(advice: Advice) -> str:
    """Machine, what to do and the lines of one advice."""
    parts = [*_comment(advice.machine), *_comment(advice.text)]
    for detail in advice.details:
        parts += _comment(detail)
    lines = render_lines(advice)
    return "\n".join([*parts, *(["", lines] if lines else [])])


def render_lines(advice: Advice) -> str:
    """The lines alone, below the name of their tool; "" without any."""
    blocks = []
    for tool in TOOLS:
        own = [line for line in advice.lines if line.tool == tool]
        if own:
            head = f"# {tool.name} (flags checked with {tool.checked})"
            blocks.append("\n".join([head, *_write(own)]))
    if advice.left_out:
        blocks.append("\n".join(c for text in advice.left_out for c in _comment(f"no {text}")))
    return "\n\n".join(blocks)


def _write(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        yield f"# {line.comment}"
        yield line.command


def _comment(text: str) -> list[str]:
    """A sentence as comment lines; line breaks in names must not end a comment."""
    return textwrap.wrap(
        " ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="#   ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
