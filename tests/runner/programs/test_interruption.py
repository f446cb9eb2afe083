"""Ctrl-C in a command study, and the resume that finishes it, as a user would do both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import PROJECT
from tests.fake_worker import LIMIT_S, wait_until

pytestmark = pytest.mark.slow

#: The first execution ends; later ones leave their number and hang until there is a file `go`.
COMMAND = """echo x >> log
if [ -e go ] || [ $(wc -l < log) -lt 2 ]; then echo rate $(wc -l < log); exit; fi
sh -c 'trap "" TERM; while :; do sleep 60; done' & echo $! > child.tmp; mv child.tmp child
wait
"""


def start(*overrides: str) -> subprocess.Popen[str]:
    """The runner, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "hydra_experiment_runner.py"), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def read_records(study: Path) -> list[dict[str, Any]]:
    return list(json.loads((study / "results.json").read_text()))


def test_ctrl_c_ends_a_command_and_resuming_finishes_the_study(tmp_path: Path) -> None:
    script = tmp_path / "work.sh"
    script.write_text(COMMAND)
    with start(
        *("experiment=command_study", f"command=[sh,{script}]", f"output.root={tmp_path}/out"),
        *("experiment.repeats=3", "experiment.hardware.numa_nodes=unbound", "tracking=none"),
        *(f"experiment.command.directory={tmp_path}", "experiment.hardware.device=cpu"),
        *("experiment.command.metrics=['rate:lower:1=rate ([0-9]+)']", "output.grace_s=0.2"),
    ) as runner:
        wait_until((tmp_path / "child").exists, "the second execution")
        child = int((tmp_path / "child").read_text())
        runner.send_signal(signal.SIGINT)
        shown, _ = runner.communicate(timeout=LIMIT_S)

    assert runner.returncode == 130
    assert "Traceback" not in shown
    assert "resume_from=" in shown
    assert not psutil.pid_exists(child)
    (study,) = (tmp_path / "out").glob("command_study/*/*")
    first, second = read_records(study)
    assert (first["status"], second["status"]) == ("passed", "interrupted")
    assert second["metric_rate"] is second["wall_s"] is None

    (tmp_path / "go").touch()
    with start(f"resume_from={study}") as runner:
        shown, _ = runner.communicate(timeout=LIMIT_S)

    assert runner.returncode == 0, shown
    found = {record["repeat"]: record for record in read_records(study)}
    assert [found[i]["status"] for i in range(3)] == ["passed"] * 3
    assert first in found.values()
    # The interrupted run was executed again, and what had passed was not.
    assert sorted(record["metric_rate"] for record in found.values()) == [1, 3, 4]
