"""The words of a command line, before Hydra reads them.

`a[0].b=1`, which Hydra 1.3 cannot parse, is rewritten to the equivalent `a.0.b=1`. Only the key is
rewritten; values, quoted strings and options such as --config-dir=/x[0] are left alone.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, MutableMapping, Sequence

from hydra._internal.utils import get_args_parser

from numa_bench.errors import NumaBenchError

#: An override's key (with Hydra's + ++ ~ prefixes) with an index: a[0].b, +a.b[0].c, ~a[0].
_KEY = re.compile(r"(?P<key>(?:\+\+?|~)?[A-Za-z_][\w./@-]*(?:\[\d+\][\w.]*)+)(?P<rest>=.*|)", re.S)
#: Options that make a command line a sweep.
MULTIRUN_OPTIONS = ("-m", "--multirun")
_TOUCHED = re.compile(r"(?:\+\+?|~)?experiment\.vit_configs\.(\d+)\b")


def to_dotted_key(argument: str) -> str:
    """The argument with indices in its key in dotted form: a[0].b=1 becomes a.0.b=1."""
    match = _KEY.fullmatch(argument)
    if match is None or not (match["rest"] or argument.startswith("~")):
        return argument
    return re.sub(r"\[(\d+)\]", r".\1", match["key"]) + match["rest"]


def rewrite_command_line(argv: list[str], environ: MutableMapping[str, str]) -> None:
    """Rewrite `argv[1:]` in place, and COMP_LINE, which shell completion sets.

    The last word of COMP_LINE is still being typed and is left unchanged.
    """
    words = [to_dotted_key(argument) for argument in argv[1:]]
    # Before all overrides: argparse refuses those on both sides of an option.
    argv[1:] = sorted(words, key=lambda word: word not in MULTIRUN_OPTIONS)
    if "COMP_LINE" in environ:
        *typed, last = environ["COMP_LINE"].split(" ")
        environ["COMP_LINE"] = " ".join([*map(to_dotted_key, typed), last])


def check_options(words: Sequence[str]) -> None:
    """Raise NumaBenchError for what Hydra would refuse with eleven lines of usage."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        _, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise NumaBenchError(f"{error}; see --help") from error
    if unknown:
        raise NumaBenchError(
            f"{shlex.join(unknown)}: not recognized; settings are KEY=VALUE, all of them before or "
            "all after the options (see --help)"
        )


def find_touched_models(overrides: Iterable[str]) -> frozenset[int]:
    """Indices of the vit_configs entries that these overrides (in dotted form) change."""
    return frozenset(int(m[1]) for m in map(_TOUCHED.match, overrides) if m)
