"""What all tests of the selftest share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def _no_full_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window collects garbage first, which takes 0.1 s in a process with all test modules."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
