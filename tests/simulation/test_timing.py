"""The virtual clock against arithmetic done by hand."""

from __future__ import annotations

import pytest
import torch

from numa_bench.errors import MachineError
from numa_bench.records import VitSpec
from numa_bench.records.workload import output_shape, vit_flop
from numa_bench.worker.models import build_model
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.pipeline import Limits, Model, Window
from tests.simulation.links import Links
from tests.simulation.model_cost import measure_cost
from tests.simulation.pipelines import RecordingPool, make_pipeline
from tests.simulation.timing import TimingRuntime
from tests.simulation.workloads import SHAPE, US, matmul
from tests.specs import make_spec


def run(
    links: Links, model: Model, depth: int = 3, batches: int = 50, seed: int = 0
) -> tuple[Window, CudaPipeline]:
    """One window on a fresh device, and the pipeline that ran it."""
    runtime = TimingRuntime(links, seed=seed)
    pipeline = make_pipeline(runtime, model, RecordingPool(runtime, SHAPE), depth)
    return pipeline.run(Limits(batches)), pipeline


def test_one_copy_takes_latency_and_bytes() -> None:
    links = Links(h2d_bytes_per_s=50e9, d2h_bytes_per_s=25e9, latency_s=3 * US)
    window, _ = run(links, lambda x: x, batches=1)

    assert window.h2d == pytest.approx([0.023])
    assert window.d2h == pytest.approx([0.043])
    assert window.wall_s == pytest.approx(66 * US)


def test_one_slot_is_as_slow_as_its_stages_one_after_another() -> None:
    links = Links(flop_per_s=0.125e9 / (30 * US))
    window, _ = run(links, matmul, depth=1, batches=10)

    assert window.wall_s == pytest.approx(10 * (20 + 30 + 0.2) * US)


def test_slots_hide_everything_but_the_longest_stage() -> None:
    links = Links(flop_per_s=0.125e9 / (30 * US))
    window, _ = run(links, matmul, batches=50)

    assert window.compute == pytest.approx([0.030] * 50)
    assert window.wall_s == pytest.approx((20 + 50 * 30 + 0.2) * US)


def test_copies_in_both_directions_share_what_bounds_them_together() -> None:
    links = Links(both_bytes_per_s=50e9)
    window, _ = run(links, lambda x: x, batches=40)

    # Two at a time, each at half its rate, but for the first and the last.
    assert sorted(window.h2d)[20] == pytest.approx(0.040)
    assert window.wall_s == pytest.approx(40 * 40 * US)


def test_what_bounds_both_does_not_slow_a_single_direction() -> None:
    links = Links(both_bytes_per_s=50e9)
    window, _ = run(links, lambda x: x, depth=1, batches=5)

    assert window.h2d == pytest.approx([0.020] * 5)


def test_a_host_that_is_late_is_what_bounds_the_run() -> None:
    # Two copies and one kernel for each batch; events cost nothing here.
    links = Links(submit_s=100 * US, launch_s=50 * US, flop_per_s=1e18)
    window, _ = run(links, matmul, batches=20)

    assert window.wall_s == pytest.approx((20 * 250 + 0.2) * US)
    # The device idles, and the start event of an idle stream comes before the copy is submitted.
    assert window.h2d == pytest.approx([0.120] * 20)


def test_an_event_is_over_when_the_host_gets_there() -> None:
    runtime = TimingRuntime(Links(launch_s=10 * US))
    stream, event = runtime.new_stream(), runtime.new_event()
    assert event.query()
    with runtime.use_stream(stream):
        runtime.hold_stream(25 * US)
        event.record(stream)
        over = []
        for _ in range(4):
            over.append(event.query())
            runtime.hold_stream(0)
    assert over == [False, False, False, True]


def test_looking_at_an_event_changes_no_times() -> None:
    """What is submitted after the look may slow down what runs during it."""

    def submit(*, look: bool) -> float:
        runtime = TimingRuntime(Links(both_bytes_per_s=50e9, submit_s=US))
        pool = RecordingPool(runtime, SHAPE)
        inwards, outwards, end = runtime.new_stream(), runtime.new_stream(), runtime.new_event()
        device = runtime.to_device(pool.first_batch())
        begin = runtime.new_event()
        begin.record(inwards)
        with runtime.use_stream(inwards):
            runtime.copy(runtime.empty(SHAPE, torch.float32), pool.first_batch())
        end.record(inwards)
        assert not (look and end.query())
        with runtime.use_stream(outwards):
            runtime.copy(pool.next_batch(), device)
        runtime.synchronize()
        return begin.elapsed_time(end)

    # It begins after 1 us and has the link for itself for 1 us of its 20; the rest takes double.
    assert submit(look=False) == pytest.approx(0.001 + 0.001 + 2 * 0.019)
    assert submit(look=True) == submit(look=False)


def test_kernels_do_not_end_before_they_are_launched() -> None:
    runtime = TimingRuntime(Links(launch_s=10 * US, flop_per_s=1e18, kernel_s=US))
    batch = runtime.to_device(torch.ones(2, 3))
    begin, end = runtime.new_event(), runtime.new_event()
    begin.record()
    runtime.call_model(lambda x: ((x + 1) * 2).relu().flatten(1), batch)
    end.record()
    runtime.synchronize()

    assert begin.elapsed_time(end) == pytest.approx(0.031)


def test_the_last_output_is_the_models() -> None:
    runtime = TimingRuntime(Links())
    pool = RecordingPool(runtime, SHAPE)
    pipeline = make_pipeline(runtime, lambda x: x[:, :7] * 2, pool, 3)
    pipeline.run(Limits(9))

    assert torch.equal(pipeline.last_output(), pool.last_batch()[:, :7] * 2)
    on_device = runtime.to_device(pool.last_batch())
    reference = runtime.to_host(runtime.call_model(lambda x: x[:, :7] * 2, on_device))
    assert torch.equal(pipeline.last_output(), reference)


def test_large_models_have_made_up_outputs_that_depend_on_the_input() -> None:
    runtime = TimingRuntime(Links(), evaluate_flop=10)
    one, other = (runtime.to_device(torch.full((2, 3), value)) for value in (1.0, 2.0))
    model = torch.nn.Linear(3, 4)
    outputs = [runtime.to_host(runtime.call_model(model, batch)) for batch in (one, one, other)]

    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_noise_is_of_the_seed() -> None:
    links = Links(noise=0.05, run_noise=0.01)
    walls = [run(links, lambda x: x, seed=seed)[0].wall_s for seed in (1, 1, 2)]

    assert walls[0] == walls[1] != walls[2]


@pytest.mark.parametrize(
    "vit", [VitSpec("small", 32, 2, 64, 2, 32, 128), VitSpec("wide", 16, 1, 96, 3, 16, 64)]
)
def test_a_models_cost_is_that_of_the_formula(vit: VitSpec) -> None:
    spec = make_spec(vit=vit)
    model = build_model(spec, torch.device("cpu"))
    with torch.inference_mode():
        cost = measure_cost(model, (2, 3, 64, 64), torch.float32)

    assert cost.flop == 2 * vit_flop(image_size=64, channels=3, **vit.sizes())
    assert cost.shape == output_shape(spec)
    assert 15 < cost.kernels / vit.sizes()["depth"] < 40


def test_a_no_op_costs_nothing_and_returns_its_input() -> None:
    runtime = TimingRuntime(Links(launch_s=1))
    batch = runtime.to_device(torch.ones(2, 3))
    before = runtime.host_time()

    assert runtime.call_model(torch.nn.Identity(), batch).data_ptr() == batch.data_ptr()
    assert runtime.host_time() == before


def test_a_replayed_graph_costs_the_host_one_submission() -> None:
    links = Links(submit_s=10 * US, launch_s=10 * US, flop_per_s=0.125e9 / (30 * US))
    runtime = TimingRuntime(links)
    pool, stream = RecordingPool(runtime, SHAPE), runtime.new_stream()
    target = torch.zeros(10, 250)
    runtime.register_host(target.data_ptr(), target.numel() * 4)
    device_input = runtime.empty(SHAPE, torch.float32)

    def submit() -> None:
        runtime.copy(device_input, pool.first_batch())
        runtime.copy(target, runtime.call_model(matmul, device_input))

    replay = runtime.capture_graph(submit, stream)
    begin = runtime.host_time()
    with runtime.use_stream(stream):
        for _ in range(5):
            replay()
    assert runtime.host_time() - begin == pytest.approx(50 * US)
    runtime.synchronize()
    assert runtime.host_time() - begin == pytest.approx((10 + 5 * 50.2) * US)
    assert torch.equal(target, matmul(pool.first_batch()))


def test_peak_memory_counts_weights_and_what_lives_at_a_time() -> None:
    runtime = TimingRuntime(Links())
    model = runtime.to_device(torch.nn.Linear(100, 50, bias=False))
    batch = runtime.empty((10, 100), torch.float32)
    output = runtime.call_model(model, batch)
    assert runtime.peak_memory_bytes() == 4 * (5000 + 1000 + 500)
    del output
    runtime.reset_peak_memory()
    assert runtime.peak_memory_bytes() == 4 * (5000 + 1000)


def test_misuse_is_refused() -> None:
    runtime = TimingRuntime(Links())
    with pytest.raises(MachineError, match="not registered"):
        runtime.copy(runtime.empty((4,), torch.float32), torch.zeros(4))
    event = runtime.new_event()
    event.record()
    with pytest.raises(RuntimeError, match="synchronise first"):
        event.elapsed_time(event)
    with pytest.raises(RuntimeError, match="capturing"):
        runtime.capture_graph(runtime.synchronize, runtime.new_stream())
