"""The command line that users type, where Hydra's own grammar does not take it.

`a[0].b=1` does not lex in Hydra 1.3; its dotted form `a.0.b=1` means the same and works. Only the
key is rewritten: values, quoted strings and options such as --config-dir=/x[0] stay untouched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping

#: An override's key (with Hydra's + ++ ~ prefixes) that holds an index: a[0].b, +a.b[0].c, ~a[0].
_KEY = re.compile(r"(?P<key>(?:\+\+?|~)?[A-Za-z_][\w./@-]*(?:\[\d+\][\w.]*)+)(?P<rest>=.*|)", re.S)
_TOUCHED = re.compile(r"(?:\+\+?|~)?experiment\.vit_configs\.(\d+)\b")


def to_dotted_key(argument: str) -> str:
    """One command-line argument with the indices of its key in dotted form."""
    match = _KEY.fullmatch(argument)
    if match is None or not (match["rest"] or argument.startswith("~")):
        return argument
    return re.sub(r"\[(\d+)\]", r".\1", match["key"]) + match["rest"]


def rewrite_command_line(argv: list[str], environ: MutableMapping[str, str]) -> None:
    """Rewrite `argv[1:]` in place, and the line that shell completion hands over.

    The last word of COMP_LINE is still being typed and stays as it is.
    """
    argv[1:] = [to_dotted_key(argument) for argument in argv[1:]]
    if "COMP_LINE" in environ:
        *typed, last = environ["COMP_LINE"].split(" ")
        environ["COMP_LINE"] = " ".join([*map(to_dotted_key, typed), last])


def find_touched_models(overrides: Iterable[str]) -> frozenset[int]:
    """Indices of the vit_configs entries that these (dotted) overrides change."""
    return frozenset(int(m[1]) for m in map(_TOUCHED.match, overrides) if m)
