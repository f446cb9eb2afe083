"""The checks themselves: on the CPU, and on a fake GPU whose times are known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from numa_bench.machine import page_placement
from numa_bench.machine.backend import Backend
from numa_bench.pcie import Link
from numa_bench.plan.resolve import resolve_vit
from numa_bench.selftest.checks import Check, Figure, Outcome, Verdict, Waived, run_check
from numa_bench.selftest.context import STUDY_MODELS, Context, read_link
from numa_bench.selftest.paired import compare_pairs
from numa_bench.selftest.registry import list_checks
from numa_bench.selftest.subjects.monitoring import judge_cost
from numa_bench.selftest.subjects.pipelines import Overlap, judge_overlaps, judge_plain_loops
from numa_bench.selftest.subjects.profiling import judge_agreement, judge_nsys
from numa_bench.selftest.torch_tools import TorchTools
from tests.conftest import PROJECT
from tests.machines import make_gpu
from tests.selftest.contexts import BOUND, make_context, make_cuda_context
from tests.selftest.fake_cuda import FakeCuda

CHECKS = {check.name: check for check in list_checks()}
#: 90 % of 31.5 GB/s.
GOOD_RATE = 28.35e9


def run(name: str, context: Context) -> Outcome:
    return run_check(CHECKS[name], context)


def value(outcome: Outcome) -> float:
    assert outcome.figure is not None, outcome.note
    return outcome.figure.value


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say on which nodes pages are."""

    def locate(**counts: int) -> None:
        nodes = Counter({int(name[4:]): count for name, count in counts.items()})
        backend = Backend(locate_pages=lambda _: nodes)
        monkeypatch.setattr(page_placement, "current_backend", lambda: backend)

    return locate


def test_every_check_has_its_own_name_and_a_question() -> None:
    checks = list_checks()

    assert len(CHECKS) == len(checks)
    assert all(check.question.endswith("?") for check in checks)


def test_the_models_are_those_of_numa_study() -> None:
    text = (PROJECT / "conf" / "experiment" / "numa_study.yaml").read_text()
    study = yaml.safe_load(text)["vit_configs"]

    ours = [resolve_vit(vit) for vit in STUDY_MODELS]

    assert [(v.patch_size, v.depth) for v in ours] == [(s["patch_size"], s["depth"]) for s in study]
    assert [v.dim for v in ours[1:]] == [s["dim"] for s in study[1:]]


def test_torch_works_here() -> None:
    assert run("torch", make_context()).verdict is Verdict.PASSED


def test_a_gpu_that_torch_cannot_use_fails_with_what_to_do() -> None:
    broken = make_context(gpu_problem="GPU 0: torch needs driver 580; update the driver")

    outcome = run("driver and GPUs", broken)

    assert outcome.verdict is Verdict.FAILED
    assert "update the driver" in outcome.note
    assert run("driver and GPUs", make_context()).verdict is Verdict.WAIVED


def test_a_refused_binding_fails_one_check_and_waives_the_pages() -> None:
    context = make_context(unbound="`numactl` is not permitted here")

    assert run("binding", context).verdict is Verdict.FAILED
    assert "not permitted" in run("binding", context).note
    assert run("page location", context).verdict is Verdict.WAIVED


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({"node0": 100}, Verdict.PASSED),
        ({"node0": 99, "node1": 1}, Verdict.PASSED),
        ({"node0": 98, "node1": 2}, Verdict.FAILED),
    ],
)
def test_pages_on_other_nodes_fail(counts: dict[str, int], verdict: Verdict, pages: Any) -> None:
    pages(**counts)

    plain = run("page location", make_context(placement=BOUND))
    registered = run("registered memory", make_cuda_context(FakeCuda(), placement=BOUND))

    assert plain.verdict is registered.verdict is verdict


def test_damaged_copies_fail(pages: Any) -> None:
    pages(node0=100)
    runtime = FakeCuda()
    runtime.damage = True

    outcome = run("registered memory", make_cuda_context(runtime, placement=BOUND))

    assert outcome.verdict is Verdict.FAILED
    assert "not what was copied" in outcome.note


def test_memory_that_cuda_does_not_call_pinned_fails(pages: Any) -> None:
    pages(node0=100)

    class Staging(TorchTools):
        def is_pinned(self, tensor: Any) -> bool:  # noqa: ARG002
            return False

    context = make_cuda_context(FakeCuda(), placement=BOUND)
    context = with_tools(context, Staging())

    assert "pinned" in run("registered memory", context).note


def with_tools(context: Context, tools: TorchTools) -> Context:
    return replace(context, cuda=replace(context.require_cuda(), tools=tools))


@pytest.mark.parametrize("name", ["raw copies H2D", "raw copies D2H", "raw copies both ways"])
def test_raw_copies_are_compared_with_the_link(name: str) -> None:
    good = run(name, make_cuda_context(FakeCuda(GOOD_RATE)))
    half = run(name, make_cuda_context(FakeCuda(GOOD_RATE / 2)))
    wrong = run(name, make_cuda_context(FakeCuda(2 * GOOD_RATE)))
    unknown = run(name, make_cuda_context(FakeCuda(), link=None))

    assert good.verdict is Verdict.PASSED
    assert value(good) == pytest.approx(0.9, rel=0.05)
    assert "PCIe 4.0 x16 carries 31.5 GB/s" in good.note
    assert half.verdict is Verdict.FAILED
    assert wrong.verdict is Verdict.FAILED  # no link carries more than it can
    assert unknown.verdict is Verdict.WAIVED


def test_each_direction_has_its_own_rate() -> None:
    context = make_cuda_context(FakeCuda(GOOD_RATE, out_rate=GOOD_RATE / 3))

    assert run("raw copies H2D", context).verdict is Verdict.PASSED
    assert run("raw copies D2H", context).verdict is Verdict.FAILED
    assert value(run("raw copies both ways", context)) == pytest.approx(0.3, rel=0.05)


def test_the_no_op_pipeline_copies_as_fast_as_bare_copies() -> None:
    outcome = run("no-op pipeline", make_cuda_context(FakeCuda(GOOD_RATE)))

    assert outcome.verdict is Verdict.PASSED
    assert value(outcome) == pytest.approx(1, abs=0.05)


def test_a_host_that_submits_slowly_costs_the_no_op_pipeline_its_rate() -> None:
    slow = FakeCuda(GOOD_RATE, launch_s=50e-6)

    assert run("no-op pipeline", make_cuda_context(slow)).verdict is not Verdict.PASSED


def test_copies_hide_behind_compute() -> None:
    """98 304 bytes take 33 us each way; the compute takes ten times as long."""
    outcome = run("overlap", make_cuda_context(FakeCuda(3e9, compute_s=3.3e-4)))

    assert outcome.verdict is Verdict.PASSED
    assert "worst of 1: vit32x1x32; limited by copies: vit32x0" in outcome.note


def test_no_compute_to_hide_behind_waives_the_overlap() -> None:
    outcome = run("overlap", make_cuda_context(FakeCuda(3e9, compute_s=1e-6)))

    assert outcome.verdict is Verdict.WAIVED
    assert "vit32x0, vit32x1x32" in outcome.note


def overlap(efficiency: float | None, compute_ms: float = 1.0, **changes: Any) -> Overlap:
    settings: dict[str, Any] = {"host_bound": False, "cuda_graph": False, **changes}
    return Overlap(efficiency, 0.1, compute_ms, 0.1, **settings)


def test_the_worst_model_that_can_hide_its_copies_counts() -> None:
    overlaps = {
        "copies": overlap(0.2, compute_ms=0.05),
        "good": overlap(1.0),
        "worst": overlap(0.9),
        "graph": overlap(0.98, cuda_graph=True),
    }

    figure = judge_overlaps(overlaps)

    assert isinstance(figure, Figure)
    assert figure.value == 0.9
    assert figure.note == "worst of 3: worst; as CUDA graph: graph; limited by copies: copies"
    assert not CHECKS["overlap"].limit.allows(figure.value)
    assert set(figure.details) == set(overlaps)


def test_the_pipeline_is_faster_than_a_plain_loop_on_a_gpu() -> None:
    outcome = run("plain loop", make_cuda_context(FakeCuda(3e9, compute_s=3.3e-5)))

    assert outcome.verdict is Verdict.PASSED
    assert value(outcome) > 1.5  # three stages of 33 us, of which two are hidden


def constant(ratio: float) -> Any:
    return compare_pairs([(ratio + index / 1000, 1.0) for index in range(8)])


def scattered() -> Any:
    return compare_pairs([(1 + index / 4, 1.0) for index in range(8)])


def test_a_pipeline_that_is_proven_slower_fails() -> None:
    limit = CHECKS["plain loop"].limit

    slower = judge_plain_loops({"a": constant(1.2), "b": constant(0.95)})
    equal = judge_plain_loops({"a": constant(1.2), "b": constant(0.985)})

    assert isinstance(slower, Figure)
    assert isinstance(equal, Figure)
    assert "worst of 2: b" in slower.note
    assert not limit.allows(slower.value)
    assert limit.allows(equal.value)


def test_pairs_that_scatter_are_not_counted_and_named() -> None:
    some = judge_plain_loops({"a": constant(1.2), "b": scattered()})
    none = judge_plain_loops({"b": scattered()})

    assert isinstance(some, Figure)
    assert some.note.endswith("pairs scatter too widely, stop other programs: b")
    assert none == Waived("pairs scatter too widely, stop other programs: b")


def test_the_plain_loop_runs_on_the_cpu() -> None:
    """Whatever the verdict on a busy machine: it has one, and the outputs were right."""
    outcome = run("plain loop", make_context())

    assert outcome.traceback is None


@pytest.mark.parametrize(
    ("name", "launch_s", "verdict"),
    [
        ("host cost of a batch", 1e-6, Verdict.PASSED),
        ("host cost of a batch", 50e-6, Verdict.FAILED),
        ("host cost of a launch", 7e-6, Verdict.PASSED),
        ("host cost of a launch", 20e-6, Verdict.FAILED),
    ],
)
def test_host_costs(name: str, launch_s: float, verdict: Verdict) -> None:
    assert run(name, make_cuda_context(FakeCuda(launch_s=launch_s))).verdict is verdict


def test_a_launch_costs_what_the_host_pays() -> None:
    outcome = run("host cost of a launch", make_cuda_context(FakeCuda(launch_s=7e-6)))

    assert value(outcome) == pytest.approx(7, rel=0.01)


def test_the_cost_of_the_monitor_is_what_the_pairs_prove() -> None:
    limit = CHECKS["cost of the monitor"].limit

    free, dear = judge_cost(constant(0.999), 9), judge_cost(constant(1.02), 9)

    assert isinstance(free, Figure)
    assert isinstance(dear, Figure)
    assert limit.allows(free.value)
    assert not limit.allows(dear.value)
    assert isinstance(judge_cost(scattered(), 9), Waived)
    with pytest.raises(RuntimeError, match="no reading"):
        judge_cost(constant(1), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CPU time of the monitor", "cost of the monitor"])
def test_the_monitor_really_reads_sensors(name: str) -> None:
    outcome = run(name, make_context(monitor_interval_s=0.05))

    assert outcome.traceback is None


def test_nsys_may_cost_half_a_percent() -> None:
    limit = CHECKS["cost of nsys"].limit
    cheap, dear = judge_nsys(constant(1.004)), judge_nsys(constant(1.008))

    assert isinstance(cheap, Figure)
    assert isinstance(dear, Figure)
    assert limit.allows(cheap.value)
    assert not limit.allows(dear.value)


def test_profiler_and_events_agree_within_two_percent() -> None:
    limit = CHECKS["profiler against events"].limit
    events = {"H2D": [1.0, 1.0, 5.0], "D2H": [2.0]}

    near = judge_agreement(events, {"H2D": [1.01], "D2H": [2.0, 2.0]})
    far = judge_agreement(events, {"H2D": [1.0], "D2H": [2.1]})

    assert limit.allows(near.value)
    assert not limit.allows(far.value)
    assert "D2H 2000.0 us by events, 2100.0 by the profiler" in far.note
    with pytest.raises(RuntimeError, match="no D2H copies"):
        judge_agreement(events, {"H2D": [1.0]})


def test_the_simulated_device_has_no_profiler_and_no_pinned_memory() -> None:
    context = make_cuda_context(FakeCuda(), full=True)

    for name in ("profiler against events", "registered against pin_memory"):
        assert run(name, context).verdict is Verdict.WAIVED


@pytest.mark.slow
def test_compiling_reports_a_wrong_output(monkeypatch: pytest.MonkeyPatch) -> None:
    from numa_bench.selftest.subjects import compilation
    from numa_bench.worker.part import Part

    monkeypatch.setattr(compilation, "measure_run", lambda _: iter([Part(problem="off by 0.5")]))

    outcome = run("compile default", make_context(full=True))

    assert outcome.verdict is Verdict.FAILED
    assert "off by 0.5" in outcome.note


def test_without_a_gpu_every_gpu_check_says_so() -> None:
    gpu_checks: list[Check] = [check for check in CHECKS.values() if check.needs_gpu]

    outcomes = [run_check(check, make_context(full=True)) for check in gpu_checks]

    assert len(outcomes) >= 9
    assert all(outcome.verdict is Verdict.WAIVED and outcome.note for outcome in outcomes)


def fake_nvml(generation: int, width: int) -> Any:
    """NVML of a GPU that has this link."""
    return SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMaxPcieLinkGeneration=lambda _: generation,
        nvmlDeviceGetMaxPcieLinkWidth=lambda _: width,
    )


def test_the_link_is_the_one_that_nvml_names() -> None:
    gpu = make_gpu(0, 0)

    assert read_link(gpu, fake_nvml(5, 16)) == Link(5, 16, "NVML")
    assert read_link(gpu, fake_nvml(0, 0)) is None
    assert read_link(replace(gpu, uuid=None), fake_nvml(5, 16)) is None
