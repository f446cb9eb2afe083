"""Numbers, tables and the console of the inspector's views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from numa_bench.terminal.console import CleanConsole

#: Most characters of a name.
MANY = 48
#: Characters of the beginning of a name that is shown from where it differs from others.
HEAD = 16
#: Characters before the difference.
CONTEXT = 8
Row = tuple[str, ...]


def format_figure(value: float | None, unit: str = "", digits: int = 2) -> str:
    """A figure with its unit; an en dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:,.{digits}f}"
    if value and not float(shown.replace(",", "")):
        # A small figure must not look like 0, which means that 0 was measured.
        shown = f"{value:.1g}"
    return f"{shown} {unit}".rstrip()


def format_duration(milliseconds: float | None) -> str:
    """A time in the unit in which it has one to three digits before the point."""
    if milliseconds is None:
        return "–"
    for unit, factor in (("s", 1e-3), ("ms", 1.0), ("us", 1e3)):
        if abs(milliseconds) * factor >= 1:
            return format_figure(milliseconds * factor, unit)
    return format_figure(milliseconds * 1e6, "ns", 0)


def format_fraction(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.1 %" if 0 < value < 0.0005 else f"{value:.1%}".replace("%", " %")


def make_table(title: str, columns: Iterable[str], rows: Iterable[Row], left: int = 1) -> Table:
    """A table whose first `left` columns are text and the others numbers."""
    made = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    made.show_edge = False
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i < left else "right", no_wrap=i >= left)
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    return made


def shorten_names(names: Sequence[str]) -> list[str]:
    """One line for each of distinct names that can be a page long.

    Result and argument types are left out. Names that would then look alike, as those of one C++
    template do, are shown from where they differ.
    """
    found = dict(zip(names, map(_remove_types, names), strict=True))
    for overloads in _find_groups(found):  # they differ in their arguments
        found |= {name: name for name in overloads}
    shown = {name: _cut(bare) for name, bare in found.items()}
    for alike in _find_groups(shown):
        shown |= _leave_out_common({name: found[name] for name in alike})
    for alike in _find_groups(shown):  # what was left out of two groups may be the difference
        shown |= {name: f"{shown[name][: MANY - 6]} ({n})" for n, name in enumerate(alike, 1)}
    return [shown[name] for name in names]


def _find_groups(shown: Mapping[str, str]) -> list[list[str]]:
    """Names that are shown by the same text."""
    groups: dict[str, list[str]] = {}
    for name, text in shown.items():
        groups.setdefault(text, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _leave_out_common(found: Mapping[str, str]) -> dict[str, str]:
    """Begin each text with its head, leave out what all have in common, and show what follows."""
    same = _count_common(found.values())
    begin = max(HEAD, same - CONTEXT)
    shown = {name: _cut(f"{text[:HEAD]}…{text[begin:]}") for name, text in found.items()}
    for alike in _find_groups(shown):
        shown |= _leave_out_common({name: found[name] for name in alike})
    return shown


def _count_common(texts: Iterable[str]) -> int:
    """Characters with which all of at least two different texts begin."""
    columns = zip(*texts, strict=False)
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, columns))


def _remove_types(name: str) -> str:
    name = name.removeprefix("void ")
    # Not the first character: "(anonymous namespace)::f(int)" begins with a bracket.
    if name.endswith(")") and "(" in name[1:]:
        return name[: name.index("(", 1)]
    return name


def _cut(text: str) -> str:
    return text if len(text) <= MANY else text[: MANY - 1] + "…"


def make_console(width: int | None = None) -> Console:
    """The console of the view: a terminal at its width, a file or pipe at 100 columns."""
    console = CleanConsole(highlight=False, emoji=False)
    if console.is_terminal:
        return console
    return CleanConsole(width=width or 100, highlight=False, emoji=False)
