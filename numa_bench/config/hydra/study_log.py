"""The handler of experiment.log: a log that cannot be written never stops a study."""

from __future__ import annotations

import contextlib
import logging
import sys


class StudyLogHandler(logging.FileHandler):
    """A log file that is opened at its first line; the first failure is one line on stderr.

    Lines that cannot be written are lost. Each line is tried, as there may be space again.
    """

    def __init__(self, filename: str) -> None:
        # An error while Hydra sets up logging would be a traceback, before the study's own check.
        super().__init__(filename, encoding="utf-8", errors="backslashreplace", delay=True)
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        try:
            super().emit(record)
        except FileNotFoundError:
            pass  # a job that was refused, whose directory is gone
        except OSError:  # it cannot be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging.Handler
        """Say once that lines are lost. Any other error than of the file is a bug, and is shown."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._failed:
            self._failed = True
            reason = error.strerror or error
            print(f"{self.baseFilename} is incomplete: {reason}", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what does not fit on the disk any more is lost."""
        with contextlib.suppress(OSError):
            super().close()
