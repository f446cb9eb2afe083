"""Collects the questions of this room from its modules."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from numa_bench.analysis import questions
from numa_bench.analysis.questions.base import Question


@functools.cache
def load_questions() -> dict[str, Question]:
    """Every question by key, in the order of the page.

    Imports each module of this package and of those inside it, and collects its `QUESTION`, if it
    has one. Done on the first call and not on import, because looking into a directory is a side
    effect. Raises
    ValueError when two modules use the same key.
    """
    loaded: dict[str, Question] = {}
    for module in pkgutil.walk_packages(questions.__path__, f"{questions.__name__}."):
        question = getattr(importlib.import_module(module.name), "QUESTION", None)
        # A helper of the questions, such as `points`.
        if question is None:
            continue
        if question.key in loaded:
            raise ValueError(f"{module.name}: another question already has the key {question.key}")
        loaded[question.key] = question
    return dict(sorted(loaded.items(), key=lambda item: item[1].order))
