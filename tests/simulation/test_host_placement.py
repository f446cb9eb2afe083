"""Whole runs with host work or another kind of host memory, on a machine whose costs are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numa_bench.machine import page_placement
from numa_bench.records import Placement, RunResult, RunSpec
from numa_bench.worker import __main__ as worker
from numa_bench.worker.host_stage.images import NormalizeWork
from tests.simulation.machine import Binding, SimulatedMachine, dual_socket_4_gpus
from tests.simulation.numactl_shim import BINDING
from tests.simulation.test_worker import BATCH, BATCH_MS, SLOW
from tests.specs import NO_OP, make_spec

pytestmark = pytest.mark.slow

Simulate = Callable[[SimulatedMachine], None]
HOST_MS = 2.0


def run(monkeypatch: pytest.MonkeyPatch, spec: RunSpec, cpu: int = 0, memory: int = 0) -> RunResult:
    """A run whose threads and memory are bound to these nodes."""
    binding = Binding(cpu_node=cpu, memory_nodes=(memory,), policy="bind")
    monkeypatch.setenv(BINDING, json.dumps(vars(binding)))
    result = worker.run_spec(spec, worker.Files(Path("unused")))
    assert (result.status, result.error) == ("passed", None)
    return result


def make(**test: Any) -> RunSpec:
    return make_spec(vit=NO_OP, kind="cuda", **{**BATCH, "num_samples": 2000, **test})


@pytest.mark.parametrize("work", ["normalize", "decode"])
def test_the_planted_cost_of_host_work_is_found(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """Memory on the other socket makes host work slower by half; link and GPU see nothing of it."""
    simulate(dual_socket_4_gpus(**SLOW, host_work_us=1e3 * HOST_MS, remote_work=1.5))
    local, remote = (run(monkeypatch, make(host_work=work), memory=node) for node in (0, 2))

    for result, planted in ((local, HOST_MS), (remote, 1.5 * HOST_MS)):
        metrics = result.metrics
        assert metrics["host_ms"] == pytest.approx(planted)
        assert metrics["host_pipelined_ms"] == pytest.approx(planted)
        assert metrics["throughput_samples_per_s"] == pytest.approx(20e3 / planted, rel=0.02)
        assert metrics["busiest_stage_fraction"] == pytest.approx(1, abs=0.02)
        assert metrics["host_wait_fraction"] == pytest.approx(1, abs=0.02)
        assert metrics["h2d_ms"] == pytest.approx(BATCH_MS)
        assert not result.observed["host_bound"]
        assert len(result.samples["host_ms"]) == len(result.samples["h2d_ms"]) == 100
        assert result.observed["host_threads"] >= 1
        assert result.observed["output_error"] < 1e-5


def test_host_work_that_the_link_hides_costs_nothing(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(dual_socket_4_gpus(**SLOW, host_work_us=500.0))
    result = run(monkeypatch, make(host_work="normalize"))

    throughput = result.metrics["throughput_samples_per_s"]
    assert throughput == pytest.approx(20e3 / BATCH_MS, rel=0.02)
    # Two copies and the host beside each other: all but the busiest is hidden.
    assert result.metrics["overlap_efficiency"] == pytest.approx(1, abs=0.03)


def test_wrong_host_work_makes_the_run_invalid(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(dual_socket_4_gpus(**SLOW))
    write = NormalizeWork.write_batch
    monkeypatch.setattr(
        NormalizeWork, "write_batch", lambda self, index, target: write(self, index + 1, target)
    )
    result = worker.run_spec(make(host_work="normalize"), worker.Files(Path("unused")))

    assert result.status == "invalid"
    assert "output is off" in str(result.error)


@pytest.mark.parametrize("kind", ["registered", "pinned", "pageable"])
def test_every_kind_of_host_memory_runs_at_its_rate(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    simulate(dual_socket_4_gpus(**SLOW, pageable_gb_per_s=0.5))
    result = run(monkeypatch, make(host_memory=kind))

    # Staged copies come one after another, each at half the rate.
    batch_ms = 4 * BATCH_MS if kind == "pageable" else BATCH_MS
    assert result.metrics["h2d_gb_per_s"] == pytest.approx(0.5 if kind == "pageable" else 1.0, 0.01)
    throughput = result.metrics["throughput_samples_per_s"]
    assert throughput == pytest.approx(20e3 / batch_ms, rel=0.02)
    said = [w for w in result.warnings if w.startswith("pageable: ")]
    assert len(said) == (kind == "pageable")


def test_pinned_memory_of_which_the_kernel_knows_nothing_is_recorded_as_such(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = page_placement.observe_placement

    def answer(buffers: Any) -> Any:
        seen = observe(buffers)
        pages = sum(seen["pages"].values())
        return {**seen, "pages": {}, "pages_missing": pages}

    simulate(dual_socket_4_gpus(**SLOW))
    monkeypatch.setattr(page_placement, "observe_placement", answer)
    local = Placement(0, (0,), "bind", "local", cpus=(0, 1, 2, 3))
    placed = replace(make(host_memory="pinned"), placement=local)
    result = run(monkeypatch, placed)

    assert result.metrics["placement_fraction"] is None
    assert result.observed["pages_unknown"] > 0
    assert [w for w in result.warnings if w.startswith("placement: the kernel does not say")]
