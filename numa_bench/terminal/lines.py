"""Lines for the terminal, without credentials and what a terminal would obey."""

from __future__ import annotations

import logging
import sys

from numa_bench.redaction import clean_text, redact_credentials


def print_line(text: object, *, error: bool = False) -> None:
    """Print a text on stdout, or on stderr; see the module."""
    print(
        clean_text(redact_credentials(text)), file=sys.stderr if error else sys.stdout, flush=error
    )


def print_error(message: object) -> None:
    """Print the one line on stderr that says what is wrong."""
    print_line("error: " + " ".join(clean_text(str(message)).split("\n")), error=True)


class LineFormatter(logging.Formatter):
    """Log lines with date and level, for the terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """A line, and the traceback if the record has one."""
        return clean_text(redact_credentials(super().format(record)))
