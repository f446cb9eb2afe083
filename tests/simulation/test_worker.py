"""The worker's whole run on a simulated machine, against the times that were planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from numa_bench.records import RunResult, RunSpec
from numa_bench.worker import __main__ as worker
from tests.simulation.machine import Binding, SimulatedMachine, dual_socket_4_gpus
from tests.simulation.numactl_shim import BINDING
from tests.specs import NO_OP, VIT, make_spec

pytestmark = pytest.mark.slow

Simulate = Callable[[SimulatedMachine], None]
#: Costs of a device without noise, in which 1 MB takes 1 ms: seconds are few batches.
SLOW = {
    "h2d_gb_per_s": 1.0,
    "d2h_gb_per_s": 1.0,
    "duplex_gb_per_s": 2.0,
    "latency_us": 0.0,
    "noise": 0.0,
    "run_noise": 0.0,
}
#: A batch of 20 x 3 x 64 x 64 x 4 bytes.
BATCH: dict[str, Any] = {"batch_size": 20, "num_samples": 60, "warmup_samples": 60}
BATCH_MS = 20 * 3 * 64 * 64 * 4 / 1e6


def run(spec: RunSpec) -> RunResult:
    return worker.run_spec(spec, worker.Files(Path("unused")))


@pytest.mark.parametrize("graph", [False, True])
def test_windows_last_as_long_as_the_settings_say(simulate: Simulate, graph: bool) -> None:
    simulate(dual_socket_4_gpus(**SLOW))
    result = run(
        make_spec(
            vit=NO_OP,
            kind="cuda",
            cuda_graph=graph,
            pipeline_depth=8,
            min_timed_s=2.0,
            min_warmup_s=1.0,
            warmup_budget_s=10.0,
            **BATCH,
        )
    )

    assert (result.status, result.error) == ("passed", None)
    measured_s = result.metrics["measured_s"]
    assert measured_s is not None
    assert 1.0 <= result.warmup["seconds"] < 1.3
    assert result.warmup["batches"] >= 8
    assert 2.0 <= measured_s < 2.2
    assert result.metrics["h2d_ms"] == pytest.approx(BATCH_MS)
    assert result.metrics["h2d_gb_per_s"] == pytest.approx(1.0)
    throughput = 20 / BATCH_MS * 1e3
    # Of the replays of eight batches each, the first H2D and the last D2H are seen.
    assert result.metrics["throughput_samples_per_s"] == pytest.approx(
        throughput * (8 / 9 if graph else 1), rel=0.005
    )
    assert result.metrics["overlap_efficiency"] == pytest.approx(7 / 8 if graph else 1, abs=0.02)


def test_a_late_host_marks_the_run(simulate: Simulate) -> None:
    late = {"submit_us": 2000.0, "event_us": 0.0}
    simulate(dual_socket_4_gpus(**{**SLOW, **late}))
    result = run(make_spec(vit=NO_OP, kind="cuda", **{**BATCH, "num_samples": 4000}))

    assert result.observed["host_bound"]
    assert [w for w in result.warnings if w.startswith("host_bound: ")]
    # Two submissions of 2 ms for a batch whose copies take 0.98 ms each.
    assert result.metrics["busiest_stage_fraction"] == pytest.approx(BATCH_MS / 4, abs=0.01)


def test_an_early_host_does_not(simulate: Simulate) -> None:
    simulate(dual_socket_4_gpus(**SLOW))
    result = run(make_spec(vit=NO_OP, kind="cuda", **{**BATCH, "num_samples": 4000}))

    assert not result.observed["host_bound"]
    assert not [w for w in result.warnings if w.startswith("host_bound: ")]


def test_memory_on_the_other_socket_costs_what_was_planted(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(dual_socket_4_gpus(**SLOW, remote_link=0.5))
    rates = []
    for node in (0, 2):
        binding = Binding(cpu_node=node, memory_nodes=(node,), policy="bind")
        monkeypatch.setenv(BINDING, json.dumps(vars(binding)))
        result = run(make_spec(vit=NO_OP, kind="cuda", **BATCH))
        assert list(result.observed["pages"]) == [str(node)]
        rates.append(result.metrics["h2d_gb_per_s"])

    assert rates == pytest.approx([1.0, 0.5])


def test_a_run_says_that_its_machine_is_simulated(simulate: Simulate) -> None:
    real = run(make_spec())
    simulate(dual_socket_4_gpus())
    simulated = run(make_spec(vit=VIT, kind="cuda"))

    assert "simulated: a simulated machine, its times are made up" in simulated.warnings
    assert not [w for w in real.warnings if w.startswith("simulated: ")]


@pytest.mark.parametrize("depth", [2, 8])
def test_warm_up_runs_through_every_slot(simulate: Simulate, depth: int) -> None:
    simulate(dual_socket_4_gpus(**SLOW))
    spec = make_spec(vit=NO_OP, kind="cuda", pipeline_depth=depth, **BATCH)
    result = run(spec)

    # Two blocks, of one batch for each slot at least, settle on a device without noise.
    assert result.warmup["batches"] == 2 * max(3, depth)


def test_peak_memory_is_that_of_the_pipeline(simulate: Simulate) -> None:
    """Not of the plain forward pass that the output is compared with."""
    simulate(dual_socket_4_gpus(**SLOW))
    result = run(make_spec(vit=NO_OP, kind="cuda", pipeline_depth=3, **BATCH))

    assert result.metrics["peak_device_memory_mb"] == pytest.approx(3 * BATCH_MS)
