"""The settings of a config class as a list: key, type, default and help text of each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import MISSING as MANDATORY
from omegaconf import DictConfig, OmegaConf

from numa_bench.errors import UnknownKeyError
from numa_bench.versions import PROJECT

T = TypeVar("T")
#: The YAML files: beside the package in a checkout, inside it when installed from a wheel.
CONFIG_DIR = next(
    (path for path in (PROJECT / "numa_bench" / "conf", PROJECT / "conf") if path.is_dir()),
    PROJECT / "conf",
)
#: Shown as the default of a setting that every experiment file must set.
UNSET = "(set by the experiment)"


def documented_field(default: T, text: str, kind: str | None = None) -> T:
    """A dataclass field with its help text, shown by --help and docs/configuration.md.

    `kind` names its type where the annotation cannot: OmegaConf has no unions.
    """
    metadata = {"help": text, "kind": kind}
    if isinstance(default, (list, dict)):
        value = default
        return field(default_factory=lambda: type(value)(value), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Leaf:
    """One setting: full key, type, default in YAML notation, help text."""

    key: str
    type: str
    default: str
    help: str


def list_settings(cls: type, prefix: str = "", *, twins: bool = False) -> Iterator[Leaf]:
    """All settings of a config class; those of list entries have keys such as `name[].key`.

    `twins` includes the settings of an entry that by default inherit from another section.
    """
    hints = get_type_hints(cls)
    for f in fields(cls):
        if f.metadata.get("twin") and not twins:
            continue
        key = f"{prefix}{f.name}"
        hint = hints[f.name]
        inner = next((arg for arg in get_args(hint) if is_dataclass(arg)), None)
        if is_dataclass(hint):
            yield from list_settings(hint, f"{key}.", twins=twins)  # type: ignore[arg-type]
        elif inner is not None:
            yield from list_settings(inner, f"{key}[].", twins=twins)  # type: ignore[arg-type]
        else:
            default = None if f.default is MISSING else f.default
            if f.default_factory is not MISSING:
                default = f.default_factory()
            kind = f.metadata.get("kind") or _type_name(hint)
            yield Leaf(key, kind, _yaml(default), f.metadata["help"])


def list_keys(cls: type) -> list[str]:
    """Full keys of all settings, including those that a list entry may override."""
    own = [leaf.key for leaf in list_settings(cls)]
    return own + [leaf.key for leaf in list_settings(cls, twins=True) if leaf.key not in own]


def to_typed_config(node: DictConfig, overrides: Sequence[str]) -> Any:
    """A composed node as an object of its schema. Raises UnknownKeyError for an unknown key."""
    try:
        return OmegaConf.to_object(node)
    except AttributeError as error:  # raised for +typo=1, because the class has slots
        raise UnknownKeyError(_added_key(str(error), overrides)) from error


def _added_key(message: str, overrides: Sequence[str]) -> str:
    """The full key that was added, from OmegaConf's "... has no attribute 'typo'"."""
    name = message.split("attribute '")[-1].split("'")[0]
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    return next((key for key in keys if key.rsplit(".", 1)[-1] == name), name)


def format_help(schema: type) -> str:
    """The settings with their help, wrapped to 100 columns for a terminal."""
    lines: list[str] = []
    for leaf in list_settings(schema):
        lines.append(f"{leaf.key}={leaf.default}")
        lines += textwrap.wrap(
            leaf.help,
            92,
            initial_indent="    ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    if any(leaf.key.startswith("experiment.vit_configs[]") for leaf in list_settings(schema)):
        lines.append("experiment.vit_configs[].<any setting of experiment.test>=null")
        lines.append("    The same setting for this model only.")
    # Hydra passes the text through string.Template.
    return "\n".join(f"  {line}" for line in lines).replace("$", "$$")


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
