"""What an analysis claimed, in a form to compare with what was planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Model, device and CPU node of a comparison with local.
Claim = tuple[str, str, str]


def read_verdict(directory: Path) -> dict[str, Any]:
    """The verdict for programs of the one analysis below a directory."""
    (path,) = directory.rglob("verdict.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def claims(verdict: dict[str, Any]) -> dict[Claim, float]:
    """The change of throughput of each comparison that was claimed to differ from local."""
    return {
        (v["model_text"], v["device_text"], v["placement_text"]): v["change"]
        for v in verdict["verdicts"]
        if v["kind"] == "effect"
    }
