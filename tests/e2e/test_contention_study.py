"""The contention study on eight simulated GPUs, in one process: what was planted comes back.

The rates expected are worked out here from the planted figures, link by link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from numa_bench.jsonio import read_json
from numa_bench.records import Record
from tests.e2e.conftest import Line
from tests.e2e.verdicts import claims, read_verdict
from tests.simulation.links import LinkModel
from tests.simulation.machine import SimulatedMachine, SimulatedNode, make_dual_socket

# Without coverage, which would double its time; tests of the parts measure it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.no_cover]

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
    "tflop_per_s": 0.01,
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
    ("socket", "memory"): MEMORY / 3,
    ("all_local", "memory"): MEMORY / 3,
    ("all_remote", "memory"): SOCKET / 8,
    ("crossed", "memory"): SOCKET / 8,
    # Two streams and eight GPUs share the link.
    ("all_remote", "socket_link"): SOCKET / 10,
    ("crossed", "socket_link"): SOCKET / 10,
}
#: A batch of the heavy model takes 64 ms of arithmetic, its copies 40 ms at most.
MODELS = "experiment.vit_configs=[{name:light,depth:0},{name:heavy,depth:2,dim:128}]"
STUDY = (
    "python hydra_experiment_runner.py experiment=contention_study "
    "experiment.contention.buffer_mb=1 experiment.contention.window_s=4.0 "
    "experiment.test.batch_size=8 experiment.test.precision=fp32 experiment.test.min_warmup_s=0 "
    "experiment.monitor_interval_s=0 "
)


def run_study(
    simulate: Callable[[SimulatedMachine], None], line: Line, directory: Path, more: str
) -> list[Record]:
    """The records of a study on the planted machine, where forward passes are only timed."""
    simulate(replace(make_dual_socket(8, LINK), evaluate_flop=1.0))
    code, _, stderr = line(STUDY + more)
    assert code == 0, stderr[-2000:]
    (results,) = directory.rglob("results.json")
    records: list[Record] = read_json(results)
    assert Counter(record["status"] for record in records) == {"passed": len(records)}
    return records


def check_rates(records: list[Record]) -> set[tuple[str, str]]:
    """Compare each worker and the total with RATES; returns the scenarios that were there."""
    seen = set()
    for record in records:
        key = (record["scenario"] or "", record["background"] or "")
        measured = [w for w in record["workers"] if w["role"] == "measured"]
        # The no-op copies each sample to the device and back.
        wanted = RATES[key] / 2 / SAMPLE_GB
        for worker in measured:
            assert worker["throughput_samples_per_s"] == pytest.approx(wanted, rel=0.02), key
        total = wanted * len(measured)
        assert record["throughput_samples_per_s"] == pytest.approx(total, rel=0.02), key
        seen.add(key)
    return seen


def test_what_was_planted_comes_back_in_every_scenario(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    records = run_study(
        simulate,
        line,
        tmp_path,
        MODELS + " experiment.repeats=1 experiment.contention.window_s=2.0",
    )
    # 8 + 8 + 2 + 1 + 1 + 1 sets of two models.
    assert len(records) == 21 * 2
    light = [record for record in records if record["vit_name"] == "light"]
    assert check_rates(light) == {key for key in RATES if key[1] == "none"}
    heavy = [record for record in records if record["vit_name"] == "heavy"]
    rates = [worker["throughput_samples_per_s"] for r in heavy for worker in r["workers"]]
    # Arithmetic hides the copies, wherever they go.
    assert rates == [pytest.approx(8 / 0.064, rel=0.03)] * len(rates)


def test_the_analysis_says_what_is_lost(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    run_study(
        simulate,
        line,
        tmp_path,
        "experiment.vit_configs=[{name:light,depth:0}] experiment.repeats=3 "
        "experiment.contention.scenarios=[alone,all_local,all_remote,crossed]",
    )
    code, _, stderr = line("python analysis/analyze.py experiment_name=contention_study")
    assert code == 0, stderr[-2000:]
    (path,) = tmp_path.rglob("contention.csv")
    table = pd.read_csv(path).set_index("scenario")
    for scenario in ("all_local", "all_remote", "crossed"):
        loss = 1 - RATES[scenario, "none"] / RATES["alone", "none"]
        row = table.loc[scenario]
        assert row["workers"] == 8
        assert row["loss"] == pytest.approx(loss, abs=0.01)
        assert row["loss_low"] < row["loss"] < row["loss_high"]
        assert row["fairness"] == pytest.approx(1.0, abs=1e-3)
    assert "all remote, 8 GPUs: lose 74.9" in str(table.loc["all_remote", "words"])
    (page,) = tmp_path.rglob("report.html")
    assert "What do workers lose together?" in page.read_text()
    # Sets are compared with sets of the same workers.
    found = {(d, p): c for (_, d, p), c in claims(read_verdict(tmp_path)).items()}
    remote = RATES["all_remote", "none"] / RATES["all_local", "none"] - 1
    assert found == {
        ("8 GPUs", "all remote"): pytest.approx(remote, abs=0.01),
        ("8 GPUs", "crossed"): pytest.approx(remote, abs=0.01),
    }


def test_background_load_takes_its_share(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    records = run_study(
        simulate,
        line,
        tmp_path,
        "experiment.vit_configs=[{name:light,depth:0}] experiment.repeats=1 "
        "experiment.contention.scenarios=[socket,all_local,all_remote,crossed] "
        "experiment.contention.background=[memory,socket_link]",
    )
    known = [r for r in records if (r["scenario"], r["background"]) in RATES]
    assert check_rates(known) >= {("all_local", "memory"), ("all_remote", "socket_link")}
    streams = [w for r in records for w in r["workers"] if w["role"] == "background"]
    assert len(streams) == 2 * 2 + 4 * 3 + 2 * 5
    assert all(w["gb_per_s"] for w in streams)


def test_one_node_without_a_gpu_says_what_its_workers_lose(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    """Two streams of two threads fill the memory of their node; each could alone."""
    link = LinkModel(memory_gb_per_s=MEMORY, stream_gb_per_s=0.35)
    simulate(SimulatedMachine((SimulatedNode(0, 0, "0-3"),), (), link))
    code, _, stderr = line(f"{STUDY} experiment.repeats=3 experiment.contention.workers_per_node=2")
    assert code == 0, stderr[-2000:]
    code, stdout, stderr = line("python analysis/analyze.py experiment_name=contention_study")
    assert code == 0, stderr[-2000:]

    loss = 1 - MEMORY / (2 * 2 * 0.35)
    (headline,) = read_verdict(tmp_path)["study_verdicts"]
    assert headline["kind"] == "no_verdict"
    before, _, after = headline["text"].partition(" No verdict on placement: ")
    assert before.startswith(f"Workers together: socket, 2 workers: lose {100 * loss:.1f}")
    assert after == "only one placement was measured."
    (page,) = tmp_path.rglob("report.html")
    assert headline["text"] in page.read_text()
    assert headline["text"] in stdout
