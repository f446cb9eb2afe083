"""The bandwidth study on two sockets and eight GPUs, in one process, to matrix and verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis import load_runs
from numa_bench.analysis.questions.links.curves import tabulate_curves
from numa_bench.analysis.questions.links.latency import tabulate_latency
from numa_bench.analysis.questions.links.matrix import tabulate_matrix
from tests.e2e.conftest import Line
from tests.e2e.verdicts import claims, read_verdict
from tests.simulation.machine import SimulatedMachine, make_dual_socket

# Without coverage, which would double its time; tests of the parts measure it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.no_cover]

#: Slow links, so that copies of 1 MiB take milliseconds and latencies are small beside them.
H2D, D2H, DUPLEX, SOCKET, PAGEABLE = 0.4, 0.3, 0.6, 0.25, 0.1
REMOTE_H2D, REMOTE_D2H = 0.5, 0.6
LATENCY_US, REMOTE_LATENCY, SUBMIT_US, LAUNCH_US, KERNEL_US = 5.0, 1.8, 2.0, 4.0, 2.0
REMOTE_HOST = 1.5
LINK = {
    "h2d_gb_per_s": H2D,
    "d2h_gb_per_s": D2H,
    "duplex_gb_per_s": DUPLEX,
    "socket_gb_per_s": SOCKET,
    "pageable_gb_per_s": PAGEABLE,
    "remote_link": REMOTE_H2D,
    "remote_d2h": REMOTE_D2H,
    "latency_us": LATENCY_US,
    "remote_latency": REMOTE_LATENCY,
    "submit_us": SUBMIT_US,
    "launch_us": LAUNCH_US,
    "kernel_us": KERNEL_US,
    "remote_host": REMOTE_HOST,
}
#: What a machine's builder may rely on: 2 %.
NEAR = 0.02
STUDY = (
    "python hydra_experiment_runner.py experiment=bandwidth_study "
    "experiment.bandwidth.sizes=[4096,1048576] experiment.bandwidth.rounds=3 "
    "experiment.bandwidth.huge_pages=never "
)


def socket(node: int) -> int:
    return node // 2


def expected(gpu_node: int, cpu: int, memory: int) -> dict[str, float]:
    """The figures that follow from what was planted, of the largest size."""
    far, far_cpu = socket(memory) != socket(gpu_node), socket(cpu) != socket(gpu_node)
    total = SOCKET if far else DUPLEX
    h2d = min(H2D * (REMOTE_H2D if far else 1), total)
    d2h = min(D2H * (REMOTE_D2H if far else 1), total)
    latency = LATENCY_US * (REMOTE_LATENCY if far else 1)
    host = REMOTE_HOST if far_cpu else 1
    # A copy of 1 MiB takes its latency too.
    with_latency = [2**20 / (2**20 / rate + latency * 1e3) for rate in (h2d, d2h)]
    return {
        "h2d_gb_per_s": with_latency[0],
        "d2h_gb_per_s": with_latency[1],
        "duplex_gb_per_s": min(sum(with_latency), total),
        "copy_latency_us": SUBMIT_US * host + latency + 4096 / h2d / 1e3,
        "launch_latency_us": LAUNCH_US * host + KERNEL_US,
    }


def run_study(line: Line, settings: str, directory: Path) -> pd.DataFrame:
    code, _, stderr = line(STUDY + settings)
    assert code == 0, stderr[-2000:]
    frame = load_runs(directory / "outputs")
    assert Counter(frame["status"]) == {"passed": len(frame)}
    return frame


def test_the_planted_matrix_comes_back_for_every_gpu_and_pair_of_nodes(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    simulate(make_dual_socket(8, LINK))
    one_node_each = "experiment.hardware.numa_nodes=[0,3] experiment.repeats=1"
    frame = run_study(line, f"{one_node_each} experiment.bandwidth.memory=[registered]", tmp_path)

    assert len(frame) == 8 * 2 * 4
    for run in frame.to_dict("records"):
        wanted = expected(run["gpu_numa_node"], run["numa_node"], run["memory_node"])
        measured = {name: run[name] for name in wanted}
        assert measured == pytest.approx(wanted, rel=NEAR), run["run_id"]


@pytest.fixture
def one_gpu(simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path) -> Any:
    """A study of GPU 2, on node 1, from one node of each socket, three times each."""
    simulate(make_dual_socket(8, LINK))
    nodes = "experiment.hardware.numa_nodes=[1,2] experiment.hardware.memory_nodes=[1,2]"
    return run_study(line, f"experiment.hardware.gpu_ids=[2] {nodes}", tmp_path)


def test_verdict_tables_and_page_show_what_was_planted(
    one_gpu: pd.DataFrame, line: Line, tmp_path: Path
) -> None:
    code, stdout, stderr = line("python analysis/analyze.py experiment_name=bandwidth_study")
    assert code == 0, stderr[-2000:]
    assert "H2D bandwidth against local" in stdout

    change = expected(1, 1, 2)["h2d_gb_per_s"] / expected(1, 1, 1)["h2d_gb_per_s"] - 1
    found = claims(read_verdict(tmp_path))
    assert found == {
        ("bandwidth", "GPU 2 (node 1)", f"node {cpu}, memory 2"): pytest.approx(change, abs=0.01)
        for cpu in (1, 2)
    }

    matrix = tabulate_matrix(one_gpu).set_index(["numa_node", "memory_node"])
    assert matrix.loc[(2, 2), "to_best"] == pytest.approx(change, abs=0.01)

    curves = tabulate_curves(one_gpu)
    assert set(curves["memory"]) == {"registered", "pinned", "pageable"}
    local = curves[curves["placement_text"] == "node 1, memory 1"]
    pageable = local[(local["memory"] == "pageable") & (local["size_bytes"] == 2**20)]
    assert set(pageable["operation"]) == {"h2d", "d2h"}  # both would block each other
    per_copy_us = 2**20 / PAGEABLE / 1e3 + LATENCY_US + SUBMIT_US
    assert pageable["gb_per_s"].tolist() == pytest.approx([2**20 / per_copy_us / 1e3] * 2, rel=NEAR)
    small = local[(local["operation"] == "h2d") & (local["size_bytes"] == 4096)]
    per_copy_us = 4096 / H2D / 1e3 + LATENCY_US
    registered = small.set_index("memory").loc["registered", "gb_per_s"]
    assert registered == pytest.approx(4096 / per_copy_us / 1e3, rel=NEAR)

    latency = tabulate_latency(one_gpu)
    assert set(latency["operation"]) == {"small_copy", "launch"}

    (page,) = tmp_path.rglob("report.html")
    text = page.read_text()
    assert "How fast is memory from every node?" in text
    assert "How fast are the copies?" not in text  # a question about pipelines
    assert {path.stem for path in page.parent.glob("plots/link_*.png")} == {
        "link_curves",
        "link_latency",
        "link_matrix",
    }
