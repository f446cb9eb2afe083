"""How far a long job without output of its own is, on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from numa_bench.terminal.lines import print_line


@contextlib.contextmanager
def show_progress(what: str, total: int, least: int) -> Iterator[Callable[[int], None]]:
    """Show on stderr what is done and how often; nothing below `least` times.

    Yields the function that takes the number of times done so far. Where stderr is no terminal, one
    line says what begins.
    """
    if total < least:
        yield lambda _: None
    elif not sys.stderr.isatty():
        print_line(f"{what}: {total:,}", error=True)
        yield lambda _: None
    else:
        # Imported late: rich takes a while to load.
        from numa_bench.terminal.console import CleanConsole

        console = CleanConsole(stderr=True, markup=False, emoji=False, highlight=False)
        with console.status(f"{what}: {total:,}") as status:
            yield lambda done: status.update(f"{what}: {done:,} of {total:,}")
