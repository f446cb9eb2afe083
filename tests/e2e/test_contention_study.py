"""The contention study on eight simulated GPUs, in one process: what was planted comes back.

The rates expected are worked out here from the planted figures, link by link.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from numa_bench.jsonio import read_json
from numa_bench.records import Record
from tests.e2e.conftest import Line
from tests.simulation.machine import SimulatedMachine, make_dual_socket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: GB/s: a GPU moves 0.6 in both directions together, alone from either socket. Two GPUs and more
#: share the memory of a node, eight the link between the sockets.
DUPLEX, SOCKET, MEMORY, THREAD = 0.6, 1.2, 1.0, 0.5
LINK = {
    "h2d_gb_per_s": DUPLEX / 2,
    "d2h_gb_per_s": DUPLEX / 2,
    "duplex_gb_per_s": DUPLEX,
    "socket_gb_per_s": SOCKET,
    "memory_gb_per_s": MEMORY,
    "stream_gb_per_s": THREAD,
    "latency_us": 0.0,
    "tflop_per_s": 0.05,
    "noise": 0.002,
    "run_noise": 0.0,
}
#: Samples of 602 kB, copied to the device and back by the no-op.
SAMPLE_GB = 224 * 224 * 3 * 4 / 1e9
#: GB/s of one worker in each scenario and load.
RATES = {
    ("alone", "none"): DUPLEX,
    ("alone_remote", "none"): DUPLEX,
    # Two GPUs on each node.
    ("socket", "none"): MEMORY / 2,
    ("all_local", "none"): MEMORY / 2,
    ("all_remote", "none"): SOCKET / 8,
    ("crossed", "none"): SOCKET / 8,
    # A stream of two threads wants 1.0, more than its fair share of a node's memory.
    ("alone", "memory"): MEMORY / 2,
    ("alone_remote", "memory"): MEMORY / 2,
    ("socket", "memory"): MEMORY / 3,
    ("all_local", "memory"): MEMORY / 3,
    ("all_remote", "memory"): SOCKET / 8,
    ("crossed", "memory"): SOCKET / 8,
    # Two streams and eight GPUs share the link.
    ("all_remote", "socket_link"): SOCKET / 10,
    ("crossed", "socket_link"): SOCKET / 10,
    # The streams also use the memory of nodes 0 and 2; what they get of the link is more than that.
    ("alone_remote", "socket_link"): SOCKET / 3,
}
STUDY = (
    "python hydra_experiment_runner.py experiment=contention_study experiment.repeats=2 "
    "experiment.contention.background=[none,memory,socket_link] experiment.contention.buffer_mb=1 "
    "experiment.contention.window_s=1.0 experiment.test.batch_size=8 experiment.test.min_warmup_s=0 "
    "experiment.monitor_interval_s=0"
)


@pytest.fixture
def records(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> list[Record]:
    simulate(make_dual_socket(8, LINK))
    code, _, stderr = line(
        STUDY + " experiment.vit_configs=[{name:light,depth:0},{name:heavy,depth:2,dim:128}]"
    )
    assert code == 0, stderr[-2000:]
    (results,) = tmp_path.rglob("results.json")
    found: list[Record] = read_json(results)
    return found


def test_every_set_ran_as_planned(records: list[Record]) -> None:
    assert {record["status"] for record in records} == {"passed"}
