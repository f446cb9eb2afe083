"""How this program was started, so that the commands it prints can be typed as they are."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALLED = "numa-bench"
#: How each application is started in a checkout.
_SCRIPTS = {
    "run": "hydra_experiment_runner.py",
    "analyze": "analysis/analyze.py",
    "inspect": "analysis/inspect_report.py",
}
_MODULES = {
    "check": ("numa_bench", "check"),
    "compare-placements": ("numa_bench", "compare-placements"),
    "resume": ("numa_bench", "resume"),
    "sync": ("numa_bench.tracking", "sync"),
    "topology": ("numa_bench.topology",),
    "selftest": ("numa_bench.selftest",),
}


def command_words(application: str) -> list[str]:
    """The words that start an application: `numa-bench run`, or `python ...` in a checkout."""
    if Path(sys.argv[0]).name == INSTALLED:
        return [INSTALLED, application]
    if application in _SCRIPTS:
        return ["python", _SCRIPTS[application]]
    return ["python", "-m", *_MODULES[application]]


def command_text(application: str) -> str:
    """The same words as one text."""
    return " ".join(command_words(application))


def read_command_line() -> list[str]:
    """The words by which this process was started, as they are typed, without directories.

    `numa-bench run ...`, `hydra_experiment_runner.py ...` or `python -m MODULE ...`. Of
    `sys.orig_argv`, because the installed command removes its first word from `sys.argv`.
    """
    arguments, name = sys.argv[1:], Path(sys.argv[0]).name
    begin = len(sys.orig_argv) - len(arguments)
    head = sys.orig_argv[:begin]
    if sys.orig_argv[begin:] == arguments:
        if "-m" in head[:-1]:
            return ["python", *head[head.index("-m") :], *arguments]
        names = [Path(word).name for word in head]
        if name in names[1:]:
            after = names.index(name, 1) + 1
            return [name, *head[after:], *arguments]
    # A job of a sweep is a process of its own, which has the arguments of the sweep.
    words = command_words("run") if name in (INSTALLED, "__main__.py") else [name]
    return [*(words[1:] if words[0] == "python" else words), *arguments]


def quote_value(text: str) -> str:
    """A text as a value in Hydra's override grammar that is read back as exactly this text.

    Paths of ordinary characters stay as they are. A quoted value (hydra.cc, "Override grammar")
    keeps all characters but backslashes before a quote, which escape; afterwards OmegaConf reads
    `${` as an interpolation unless it is escaped in the same way.
    """
    # Without a slash a word may be a number, null or a boolean.
    plain = re.fullmatch(r"[\w./:-]*/[\w./:-]*|[A-Za-z_][\w.-]*", text, re.ASCII)
    if plain and text.lower() not in ("null", "true", "false", "inf", "nan"):
        return text
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), text)
    return f"'{text}'"


def resume_arguments(directory: Path) -> list[str]:
    """The arguments of the runner that resume a study or a sweep."""
    return [f"resume_from={quote_value(str(directory))}"]


def resume_command(directory: Path, arguments: Sequence[str] = ()) -> str:
    """The command that runs what is pending, quoted for Hydra's grammar and for the shell."""
    return shlex.join([*command_words("run"), *resume_arguments(directory), *arguments])
