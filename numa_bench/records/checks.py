"""Whether data that was read from JSON has the type that an annotation declares.

Stored files may be damaged, edited by hand or of somebody else. What passes can be computed with:
numbers fit into a double, and nothing is nested deeper than `DEPTH`.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

Check = Callable[[Any], bool]

#: Every whole number up to this size is a double, which tables compute with.
MOST_INTEGER = 1 << 53
#: Largest magnitude of a number: products of a few of them still fit into a double.
MOST_NUMBER = 1e60
#: Levels of lists and objects below a value of any type.
DEPTH = 24


def is_number(value: object) -> bool:
    """Whether this is a number that can be computed with: finite, and no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= MOST_NUMBER  # False for NaN


def is_integer(value: object) -> bool:
    """Whether this is a whole number that a double can hold."""
    return type(value) is int and abs(value) <= MOST_INTEGER


def is_plain(value: object, depth: int = DEPTH) -> bool:
    """Whether this is any JSON data, nested at most `depth` deep; a number may be NaN."""
    if isinstance(value, dict):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value)
    if type(value) is int:
        return abs(value) <= MOST_NUMBER
    return True


_LEAVES: dict[Any, Check] = {
    Any: is_plain,
    object: is_plain,
    str: lambda value: isinstance(value, str),
    int: is_integer,
    float: is_number,
    bool: lambda value: type(value) is bool,
    type(None): lambda value: value is None,
}


@functools.cache
def make_check(hint: Any) -> Check:
    """A function that says whether data from JSON is of this type.

    A tuple is a list in JSON; a TypedDict needs all of its keys and may have others.
    """
    if hint in _LEAVES:
        return _LEAVES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _make_union_check(arguments)
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        item = make_check(arguments[0])
        return lambda value: isinstance(value, (list, tuple)) and all(map(item, value))
    if origin is tuple:
        items = tuple(map(make_check, arguments))
        return lambda value: (
            isinstance(value, (list, tuple))
            and len(value) == len(items)
            and all(check(one) for check, one in zip(items, value, strict=True))
        )
    if origin is dict:
        item = make_check(arguments[1])
        return lambda value: isinstance(value, dict) and all(map(item, value.values()))
    if typing.is_typeddict(hint):
        keys = make_checks(hint)
        return lambda value: isinstance(value, dict) and find_mismatch(value, keys) is None
    raise TypeError(f"no check for {hint}")


def _make_union_check(arguments: Sequence[Any]) -> Check:
    # Ten thousand records make a million of these checks, nearly all of "X | None".
    checks = tuple(map(make_check, arguments))
    if len(checks) == 2 and arguments[1] is type(None):
        check = checks[0]
        return lambda value: value is None or check(value)
    return lambda value: any(check(value) for check in checks)


@functools.cache
def make_checks(kind: type) -> dict[str, Check]:
    """The check of each field of a dataclass or key of a TypedDict."""
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        hints = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {name: make_check(hint) for name, hint in hints.items()}


def find_mismatch(data: Mapping[str, Any], checks: Mapping[str, Check]) -> str | None:
    """The first key that is missing or whose value fails its check; None if there is none."""
    for name, check in checks.items():
        if name not in data or not check(data[name]):
            return name
    return None


def find_wrong_value(data: Mapping[str, Any], kind: type) -> str | None:
    """The first key whose value is of another type than the dataclass `kind` declares for it.

    A key may be missing. One that the class does not have must hold a single value.
    """
    checks = make_checks(kind)
    for name, value in data.items():
        if not checks.get(name, is_single)(value):
            return name
    return None


def is_single(value: object) -> bool:
    """Whether this is no list and no object."""
    return not isinstance(value, (list, dict)) and is_plain(value)
