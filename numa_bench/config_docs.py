"""The documentation that the config fields carry, as --help text and as docs/configuration.md.

Write the page: python -m numa_bench.config_docs > docs/configuration.md
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING as MANDATORY

from numa_bench.config import RunnerConfig, TestConfig, ViTConfig

_HEAD = """# Configuration

Every setting of `hydra_experiment_runner.py`. Generated from `numa_bench/config.py`; do not edit,
run `python -m numa_bench.config_docs > docs/configuration.md` (a test keeps it in step).

On the command line: `key=value`, lists as `[0,1]`, entries of a list as
`experiment.vit_configs[0].depth=8`. `--cfg job` prints the composed configuration.
"""
#: Shown as the default of a setting that every experiment file must give.
UNSET = "(set by the experiment)"


@dataclass(frozen=True)
class Leaf:
    """One setting: full key, type, default as YAML writes it, documentation."""

    key: str
    type: str
    default: str
    help: str


def leaves(cls: type, prefix: str = "") -> Iterator[Leaf]:
    """All settings below a config class; entries of a list are written `name[]`."""
    hints = get_type_hints(cls)
    for f in fields(cls):
        if f.metadata.get("twin"):
            continue
        key = f"{prefix}{f.name}"
        hint = hints[f.name]
        inner = next((arg for arg in get_args(hint) if is_dataclass(arg)), None)
        if is_dataclass(hint):
            yield from leaves(hint, f"{key}.")  # type: ignore[arg-type]
        elif inner is not None:
            yield from leaves(inner, f"{key}[].")  # type: ignore[arg-type]
        else:
            default = None if f.default is MISSING else f.default
            if f.default_factory is not MISSING:
                default = f.default_factory()
            yield Leaf(key, _type_name(hint), _yaml(default), f.metadata["help"])


def all_keys(cls: type) -> list[str]:
    """Full keys of all settings, those that a vit_configs entry may override included."""
    keys = [leaf.key for leaf in leaves(cls)]
    own = [f"experiment.vit_configs[].{f.name}" for f in fields(TestConfig)]
    return keys + (own if cls is RunnerConfig else [])


def help_text() -> str:
    """The settings for a terminal, 100 columns."""
    lines: list[str] = []
    for leaf in leaves(RunnerConfig):
        lines.append(f"{leaf.key}={leaf.default}")
        lines += textwrap.wrap(
            leaf.help,
            92,
            initial_indent="    ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    lines.append("experiment.vit_configs[].<any setting of experiment.test>=null")
    lines.append("    The same setting for this model alone.")
    # Hydra passes the text through string.Template.
    return "\n".join(f"  {line}" for line in lines).replace("$", "$$")


def markdown() -> str:
    """The page docs/configuration.md."""
    out = [_HEAD]
    group = None
    for leaf in leaves(RunnerConfig):
        section = leaf.key.rsplit(".", 1)[0] if "." in leaf.key else "top level"
        if section != group:
            group = section
            out.append(f"\n## {section}\n")
            if section == "experiment.vit_configs[]":
                out.append(f"{_first_line(ViTConfig)} An entry may also hold any setting of")
                out.append("`experiment.test`, for itself alone.\n")
            out.append("| key | type | default | meaning |\n| --- | --- | --- | --- |")
        meaning = leaf.help.replace("|", "\\|")
        out.append(f"| `{leaf.key}` | {leaf.type} | `{leaf.default}` | {meaning} |")
    return "\n".join(out) + "\n"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _type_name(hint: Any) -> str:
    if get_origin(hint) is list:
        return f"list of {_type_name(*get_args(hint))}"
    args = [arg for arg in get_args(hint) if arg is not type(None)]
    name = getattr(args[0] if args else hint, "__name__", "Any")
    name = {"Any": "number, word or list"}.get(name, name)
    return f"{name} or null" if args else name


def _yaml(value: object) -> str:
    if value is None:
        return "null"
    if value == MANDATORY:
        return UNSET
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(markdown(), end="")
