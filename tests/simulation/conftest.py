"""What all tests of the simulation share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def no_collection_before_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window begins with a full garbage collection, a tenth of a second in a process that has
    torch loaded; these tests run thousands of windows."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
