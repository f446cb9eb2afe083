"""Models that are no ViTs through the CUDA pipelines of a simulated device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.records import RunResult, VitSpec
from numa_bench.worker import __main__ as worker
from tests.simulation.machine import SimulatedMachine, dual_socket_4_gpus
from tests.specs import make_spec

pytestmark = pytest.mark.slow

Simulate = Callable[[SimulatedMachine], None]
#: 1 MB takes 1 ms; one GFLOP takes 1 s.
SLOW = {
    "h2d_gb_per_s": 1.0,
    "d2h_gb_per_s": 1.0,
    "duplex_gb_per_s": 2.0,
    "tflop_per_s": 1e-3,
    "latency_us": 0.0,
    "noise": 0.0,
    "run_noise": 0.0,
}
BATCH: dict[str, Any] = {"batch_size": 20, "num_samples": 60, "warmup_samples": 60}
NETS = """
import torch
from torch import nn

def make_net(width):
    return nn.Sequential(nn.Conv2d(3, width, 4, stride=4, bias=False), nn.Flatten())

class Part(nn.Module):
    def forward(self, x):
        return x[:, 1:]
"""
IN_MS = 20 * 3 * 64 * 64 * 4 / 1e6
OUT_MS = 20 * 8 * 16 * 16 * 4 / 1e6
#: 8 x 16 x 16 values, each from 3 x 4 x 4 products.
FLOP = 2 * 8 * 16 * 16 * 48


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simulatednets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "simulatednets", raising=False)


def run(vit: VitSpec, **test: Any) -> RunResult:
    spec = make_spec(vit=vit, kind="cuda", **{**BATCH, **test})
    return worker.run_spec(spec, worker.Files(Path("unused")))


@pytest.mark.parametrize("graph", [False, True])
def test_its_stages_last_as_long_as_planted(simulate: Simulate, graph: bool) -> None:
    simulate(dual_socket_4_gpus(**SLOW))
    net = VitSpec("net", target="simulatednets.make_net", args={"width": 8})
    result = run(net, cuda_graph=graph)

    assert (result.status, result.error) == ("passed", None)
    assert result.metrics["flop_per_sample"] == FLOP
    assert result.metrics["h2d_ms"] == pytest.approx(IN_MS, rel=0.02)
    assert result.metrics["compute_ms"] == pytest.approx(20 * FLOP / 1e6, rel=0.02)
    # The output's own bytes: of the input's it would take six times as long.
    assert result.metrics["d2h_ms"] == pytest.approx(OUT_MS, rel=0.02)
    assert result.metrics["d2h_gb_per_s"] == pytest.approx(1.0, rel=0.02)


def test_an_output_inside_the_input_is_copied_on_the_device_first(simulate: Simulate) -> None:
    """The next batch may be copied to the input while the output is copied back."""
    simulate(dual_socket_4_gpus(**SLOW))
    result = run(VitSpec("part", target="simulatednets.Part"))

    assert (result.status, result.error) == ("passed", None)
    assert result.observed["output_shape"] == [20, 2, 64, 64]
    assert result.metrics["d2h_ms"] == pytest.approx(IN_MS * 2 / 3, rel=0.02)
    # One kernel for the copy; a view would cost nothing.
    assert result.metrics["compute_ms"] > 0  # type: ignore[operator]
