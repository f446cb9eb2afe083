"""The default study on eight GPUs, two sockets and four nodes, in one process, to the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.jsonio import read_json
from tests.e2e.conftest import Line
from tests.e2e.verdicts import claims, read_verdict
from tests.simulation.machine import SimulatedMachine, make_dual_socket

# Without coverage, which would double its time; tests of the parts measure it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.no_cover]

REMOTE_LINK = 0.8
#: The GPUs of the second socket whose copies cross to the first one slowly.
SLOW_GPUS = (4, 5)
#: Batches of 4.8 MB take 12 ms, so that seconds are few batches; the two models with patches of 16
#: take 36 ms and more, the others less than 4 ms.
LINK = {
    "h2d_gb_per_s": 0.4,
    "d2h_gb_per_s": 0.4,
    "duplex_gb_per_s": 0.8,
    "tflop_per_s": 5.0,
}
#: Small batches, as every run touches its memory for real; no limit, as no time passes. Planted
#: effects are large and without noise, so the fewest repeats that give a verdict are enough.
SETTINGS = (
    "experiment.test.batch_size=8 experiment.test.precision=fp32 experiment.repeats=3 "
    "time_limit=null"
)
BOUND_BY_COPIES = ("vit32x0", "vit32x2x128", "vit32x4x256", "vit32x6x512")
BOUND_BY_ARITHMETIC = ("vit16x8x768", "vit16x12x1024")
#: Larger forward passes are only timed; no-op and the smallest model are really computed.
EVALUATE_FLOP = 5e8


def plant() -> SimulatedMachine:
    """The machine, with two GPUs that are slow across the sockets."""
    machine = replace(make_dual_socket(8, LINK), evaluate_flop=EVALUATE_FLOP)
    gpus = [
        replace(gpu, remote_link=REMOTE_LINK) if index in SLOW_GPUS else gpu
        for index, gpu in enumerate(machine.gpus)
    ]
    return replace(machine, gpus=tuple(gpus))


def test_the_verdict_is_what_was_planted_and_nothing_else(
    simulate: Callable[[SimulatedMachine], None], line: Line, tmp_path: Path
) -> None:
    simulate(plant())
    code, _, stderr = line(f"python hydra_experiment_runner.py {SETTINGS}")
    assert code == 0, stderr[-2000:]
    (results,) = tmp_path.rglob("results.json")
    records = read_json(results)
    # Local, another node of the socket, and CPUs and memory each near and far.
    assert len(records) == 8 * 5 * 6 * 3
    labels = ("local", "same_socket", "local/remote", "remote/local", "remote")
    assert Counter(r["placement"] for r in records) == dict.fromkeys(labels, 8 * 6 * 3)
    assert Counter(record["status"] for record in records) == {"passed": len(records)}

    code, stdout, stderr = line("python analysis/analyze.py experiment_name=numa_study")
    assert code == 0, stderr[-2000:]
    assert stdout.startswith("Not a measurement: 720 of 720 runs")
    verdict = read_verdict(tmp_path)
    found = claims(verdict)
    planted = {
        (model, f"GPU {gpu} (node 2)", f"node {cpus}, memory {far}")
        for model in BOUND_BY_COPIES
        # Each of the two GPUs has another one of the two far nodes.
        for far, gpu in enumerate(SLOW_GPUS)
        for cpus in (2, far)
    }
    assert set(found) == planted
    assert list(found.values()) == [pytest.approx(REMOTE_LINK - 1, abs=0.01)] * len(planted)
    assert {v["kind"] for v in verdict["verdicts"]} == {"effect", "no_difference"}
