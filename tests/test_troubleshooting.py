"""docs/troubleshooting.md quotes messages that exist, and names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from numa_bench.versions import PROJECT

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (PROJECT / "docs" / "troubleshooting.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| message")
]


def read_messages() -> str:
    """All string literals of the package, with `...` for what is filled in."""
    texts = []
    for path in sorted((PROJECT / "numa_bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "..." for p in node.values)
                texts.append("".join(map(str, parts)))
    return "\n".join(texts)


MESSAGES = read_messages()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[-1].rpartition("::")[2][:60])
def test_a_row_is_true(row: list[str]) -> None:
    symptom, advice, test = row
    assert advice
    for quoted in re.findall(r"`([^`]+)`", symptom):
        for part in quoted.split("..."):
            assert part.strip() in MESSAGES, f"no message says {part!r}"
    path, _, name = test.strip("`").partition("::")
    assert f"\ndef {name}(" in (PROJECT / Path(path)).read_text()
