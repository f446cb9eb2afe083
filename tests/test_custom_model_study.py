"""A study of a user's own model as a stranger runs it: real processes, this machine's CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.test_end_to_end import TINY, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed"),
]
#: Leaves a file named after each process that imports it.
MODULE = """
import os
from pathlib import Path
from torch import nn

command = Path("/proc/self/cmdline").read_text().replace("\\0", " ")
Path(f"imported-{os.getpid()}").write_text(command)

def make_net(width):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which a study of one good model and one that fails was run."""
    cwd = tmp_path_factory.mktemp("mine")
    (cwd / "mine.py").write_text(MODULE)
    entries = (
        "{_target_: mine.make_net, input_shape: [3,16,16], args: {width: 8}}, {_target_: mine.nope}"
    )
    done = run(*TINY, f"experiment.vit_configs=[{entries}]", cwd=cwd)
    assert done.returncode == 1, done.stderr
    return cwd


def records(study: Path) -> dict[str, Any]:
    (path,) = study.glob("outputs/quick_test/*/*/results.json")
    return {record["vit_name"]: record for record in json.loads(path.read_text())}


def test_a_model_is_a_run_like_any_other(study: Path) -> None:
    record = records(study)["make_net-width8"]

    assert record["status"] == "passed"
    assert record["run_id"].startswith("cpu_numa0_make_net-width8_r0-")
    assert record["vit_config"]["target"] == "mine.make_net"
    assert record["vit_config"]["args"] == {"width": 8}
    assert record["vit_config"]["input_shape"] == [3, 16, 16]
    assert record["vit_config"]["depth"] is None
    assert record["throughput_samples_per_s"] > 0
    assert record["observed"]["output_shape"] == [2, 8]
    assert record["observed"]["model_file"] == str(study / "mine.py")
    assert record["flop_per_sample"] == 2 * 8 * 14 * 14 * 27


def test_one_that_fails_costs_only_its_own_run(study: Path) -> None:
    record = records(study)["nope"]

    assert record["status"] == "failed"
    assert record["error"].splitlines()[0] == (
        "ModelError: mine.nope: mine has no attribute 'nope'"
    )


def test_only_workers_import_the_users_module(study: Path) -> None:
    """Once for each of the two runs, and never in the runner."""
    importers = [path.read_text() for path in study.glob("imported-*")]

    assert len(importers) == 2
    assert all("-m numa_bench.worker --spec" in command for command in importers)
