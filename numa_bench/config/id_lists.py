"""Lists of nodes, CPUs and GPUs, as they are given in any of their notations. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from numa_bench.errors import ConfigError
from numa_bench.machine.topology import parse_cpu_list

IdList = tuple[int | str, ...]

_DISTANCE_WORDS = ("same_socket", "other_socket")
#: Words of `numa_nodes` and of `memory_nodes`.
NODE_WORDS = ("all", "local", "remote", "unbound", *_DISTANCE_WORDS)
MEMORY_WORDS = ("all", "local", "remote", "same", *_DISTANCE_WORDS)
#: Those of both that are relative to a device.
RELATIVE_WORDS = ("local", "remote", *_DISTANCE_WORDS)
_UUID = re.compile(r"(GPU|MIG)-[0-9A-Za-z/-]+")


def parse_id_list(key: str, value: Any, words: tuple[str, ...] | None) -> IdList | None:
    """Parse a list of numbers and words in any of the accepted notations.

    None stays None; 1, "1", [0, 2], "0,2", "[0, 2]", "0-3" and "" (empty) are lists. `words` are
    allowed in addition to numbers; with None, GPU UUIDs are. Raises ConfigError.
    """
    if value is None:
        return None
    parts = split_list(key, value)
    return tuple(item for part in parts for item in _parse_part(key, value, part, words))


def parse_gpu_groups(key: str, value: Any) -> tuple[IdList, ...] | None:
    """The GPUs of each run: "0,4" is one run for each, "0+4" one run that sees both.

    None stays None. Raises ConfigError.
    """
    if value is None:
        return None
    groups: list[IdList] = []
    for part in split_list(key, value):
        if not (isinstance(part, str) and "+" in part):
            groups += [(gpu,) for gpu in _parse_part(key, value, part, None)]
            continue
        group = tuple(g for one in part.split("+") for g in _parse_part(key, value, one, None))
        if len(set(group)) < len(group) or len(group) < 2 or "-" in re.sub(_UUID, "", part):
            raise ConfigError(key, value, f"{part} is no group; write different GPUs, such as 0+4")
        groups.append(group)
    return tuple(groups)


def _parse_part(key: str, value: Any, part: Any, words: tuple[str, ...] | None) -> IdList:
    """The items that one entry of a list means; a range means several."""
    text = str(part).strip().strip("'\"")
    if isinstance(part, (bool, float)):
        raise ConfigError(key, value, f"{text} is not a whole number")
    if re.fullmatch(r"\d+(-\d+)?", text):
        try:
            return tuple(parse_cpu_list(text))
        except ValueError:
            raise ConfigError(
                key,
                value,
                f"{text} is not a valid range; ranges ascend, such as 0-3, up to 65535",
            ) from None
    if text in words if words is not None else _UUID.fullmatch(text):
        return (text,)
    also = f", or {', '.join(words)}" if words else ""
    also = " or GPU UUIDs" if words is None else also
    raise ConfigError(key, value, f"'{text}' is not valid here; use numbers{also}")


def split_list(key: str, value: Any) -> list[Any]:
    """The entries of a list in any notation. Raises ConfigError."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str):
        text = value.strip()
        # ${oc.env:NAME,[0,1]} is a string even for its default, and [local] is no JSON.
        if text.startswith("["):
            try:
                return list(json.loads(text))
            except ValueError:
                text = text.strip("[]")
        return [part for part in text.split(",") if part.strip()]
    if isinstance(value, int):
        return [value]
    raise ConfigError(key, value, "use a number, a list such as [0,1], or null")
