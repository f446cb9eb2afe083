"""Values that do not belong where they are put, and places of JSON data to put them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st


def nest(levels: int) -> Any:
    """Lists in one another."""
    made: Any = []
    for _ in range(levels):
        made = [made]
    return made


#: What readers have to survive at any place of a JSON file.
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 10**18, 10**30, 10**400, -(10**400), 0.5, 1e308, -1e308, 5e-324,
    float("nan"), float("inf"), "", " ", "a", "NaN", "0", "\x1b]0;title\x07", "\x1b[2J\x9b31m",
    "\x00", "../../etc", "/", "\ud800", "\u202e", "<script>", "{{x}}", "[bold]", "\n\n", "x" * 3000,
    [], [None], ["a"], [1, "a", None], [[]], {}, {"a": 1}, {"": {}}, {"a": {"b": [1]}},
    nest(30), nest(300), [{"gpu_id": "a"}], {"max": "x", "median": []}, "2026-13-45T99:99:99",
]  # fmt: skip
anything = st.sampled_from(HOSTILE) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)


def list_places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in JSON data: of a long list only those of the first items."""
    found = [path] if path else []
    if isinstance(data, dict):
        for key, value in data.items():
            found += list_places(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data[:2]):
            found += list_places(value, (*path, index))
    return found


def put(data: Any, path: tuple[Any, ...], value: Any) -> None:
    """Put a value at a path, or remove what is there where the value is `REMOVE`."""
    for key in path[:-1]:
        if not isinstance(data, (dict, list)):
            return
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return  # an earlier change removed it
    try:
        if value is REMOVE:
            del data[path[-1]]
        else:
            data[path[-1]] = copy.deepcopy(value)
    except (KeyError, IndexError, TypeError):
        return


REMOVE = object()
change = anything | st.just(REMOVE)
