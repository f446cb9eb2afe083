"""Pure: names and sentences as GitHub-flavoured Markdown, commands without private parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from numa_bench.analysis.plots.style import shorten_middle
from numa_bench.labels import list_first
from numa_bench.redaction import is_secret, redact_credentials

#: Characters that have a meaning in running text or in a table cell; a dollar sign starts
#: mathematics on GitHub.
_SPECIAL = re.compile(r"[\\`*\[\]~|$>]|(?<!\w)_|_(?!\w)")
#: What starts a heading, a list item or a rule at the start of a line.
_LEADING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+#=]))")
#: What GitHub turns into a mention of a user, or a reference to an issue.
_REFERENCE = re.compile(r"@(?=\w)|#(?=\d)")
_NO_BREAK = "&#8203;"  # zero-width space, after which neither is recognized
_ASSIGNMENT = re.compile(r"([\w.-]+)=([^\s'\"]+)")
_ABSOLUTE = re.compile(r"(?<![\w.~/:…])/[^\s'\"=,\[\]]+")
#: Parts that an absolute path keeps: the name, the date and the time of a study.
_KEPT_PARTS = 3
#: Longest command in characters.
_COMMAND_WIDTH = 400


def escape_text(text: object, most: int = 60) -> str:
    """A text as one line of at most `most` visible characters, without any markup of its own."""
    line = shorten_middle(text, most)
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    line = _SPECIAL.sub(r"\\\g<0>", line)
    line = _LEADING.sub(r"\1\\", line)
    return _REFERENCE.sub(rf"\g<0>{_NO_BREAK}", line)


def join_names(names: Sequence[object], most: int = 3, width: int = 40) -> str:
    """The first names of a list, escaped, and how many there are besides."""
    return list_first([escape_text(name, width) for name in names], most)


def format_command(command: str) -> str:
    """A command as it is typed, on one line, without credentials and without private paths."""
    text = f"python {command}" if command.partition(" ")[0].endswith(".py") else command
    text = _ASSIGNMENT.sub(_hide_secret, redact_credentials(text))
    return shorten_middle(shorten_paths(text), _COMMAND_WIDTH)


def shorten_paths(text: str) -> str:
    """A text whose absolute paths keep only their last parts: "…/numa_study/2026-01-31/14-30-15".

    The first two, often those of a home directory, are always left out.
    """
    return _ABSOLUTE.sub(_shorten_path, text)


def _shorten_path(found: re.Match[str]) -> str:
    parts = [part for part in found[0].split("/") if part]
    kept = parts[max(2, len(parts) - _KEPT_PARTS) :]
    return "/".join(["…", *kept]) if kept else found[0]


def _hide_secret(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if is_secret(found[1]) else found[0]
