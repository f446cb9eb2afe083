"""How this program was started, so that the commands it prints can be typed as they are."""

from __future__ import annotations

import sys
from pathlib import Path

INSTALLED = "numa-bench"
#: How each application is started in a checkout.
_SCRIPTS = {
    "run": "hydra_experiment_runner.py",
    "analyze": "analysis/analyze.py",
    "inspect": "analysis/inspect_report.py",
}
_MODULES = {
    "sync": ("numa_bench.tracking", "sync"),
    "topology": ("numa_bench.topology",),
    "selftest": ("numa_bench.selftest",),
}


def command_words(application: str) -> list[str]:
    """The words that start an application: `numa-bench run`, or `python ...` in a checkout."""
    if Path(sys.argv[0]).name == INSTALLED:
        return [INSTALLED, application]
    if application in _SCRIPTS:
        return ["python", _SCRIPTS[application]]
    return ["python", "-m", *_MODULES[application]]


def command_text(application: str) -> str:
    """The same words as one text."""
    return " ".join(command_words(application))
