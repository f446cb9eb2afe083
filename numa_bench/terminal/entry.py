"""Start an application so that neither Ctrl-C nor its output ends it with a traceback.

Output that nobody can read is dropped (`terminal/streams.py`).

For Ctrl-C, a KeyboardInterrupt alone is not enough: what runs while modules are loaded may turn it
into another exception (a class body into RuntimeError before Python 3.12, extension modules into
ImportError), or print and drop it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from numa_bench.terminal.streams import guard_streams

#: What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 130


class _Interrupted:
    """Raises KeyboardInterrupt on SIGINT, and remembers that it did."""

    def __init__(self) -> None:
        self.seen = False
        self._print_unraisable = sys.unraisablehook

    def note(self, _number: int, _frame: FrameType | None) -> NoReturn:
        self.seen = True
        raise KeyboardInterrupt

    def drop_unraisable(self, unraisable: Any) -> None:
        """`sys.unraisablehook` for callbacks in which the interrupt was raised."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._print_unraisable(unraisable)


def run_application(module: str) -> int:
    """Import a module and return the exit code of its `main()`; INTERRUPTED after Ctrl-C.

    Ctrl-C while modules are loaded, or at the process's very end, ends it at once. Where SIGINT is
    ignored, as in a shell's background jobs, it stays so.
    """
    guard_streams()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return _call_main(module)
    signal.signal(signal.SIGINT, _exit_at_once)
    interrupted = _Interrupted()
    sys.unraisablehook = interrupted.drop_unraisable
    application = importlib.import_module(module)
    try:
        signal.signal(signal.SIGINT, interrupted.note)
        code: int = application.main()
        return code
    except BaseException:
        if not interrupted.seen:
            raise
        return INTERRUPTED
    finally:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a stream that was closed
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        signal.signal(signal.SIGINT, _exit_at_once)


def main() -> int:
    """The installed command `numa-bench`."""
    return run_application("numa_bench.cli")


def _call_main(module: str) -> int:
    code: int = importlib.import_module(module).main()
    return code


def _exit_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)  # nothing was begun yet, or all is stored and printed
