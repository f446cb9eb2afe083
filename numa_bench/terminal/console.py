"""A rich console on which texts of others cannot control the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from numa_bench.redaction import clean_text

#: Columns where stdout is no terminal: the widest run ids fit.
_PLAIN_WIDTH = 160


class CleanConsole(Console):
    """Styles are rich's own; control sequences in what is printed are removed."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, with clean texts."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=clean_text(segment.text))


def open_stdout() -> CleanConsole:
    """A console on stdout, wide enough for run ids when the output goes to a file or a pipe."""
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return CleanConsole(width=width, markup=False, emoji=False, highlight=False)
