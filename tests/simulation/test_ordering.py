"""The CUDA pipeline under every order of its operations that streams and events allow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from numa_bench.errors import MachineError
from tests.simulation.handles import StaticOutputModel
from tests.simulation.mutants import (
    EarlyInputRelease,
    EarlyOutputRelease,
    WithoutClone,
    WithoutWait,
)
from tests.simulation.ordering import OrderingRuntime
from tests.simulation.pipelines import Pool, make_pipeline

SHAPE = (2, 3, 4)
SEEDS = range(4)


def double(batch: torch.Tensor) -> torch.Tensor:
    """A model with a fresh output of another size than its input."""
    return batch.flatten(1)[:, :5] * 2 + 1


def no_op(batch: torch.Tensor) -> torch.Tensor:
    return batch


MODELS = {"no-op": no_op, "fresh": double, "graph": double}


def run(runtime: OrderingRuntime, kind: str, depth: int) -> int:
    """Batches through the pipeline in several windows; how many outputs were wrong."""
    model = StaticOutputModel(double) if kind == "graph" else MODELS[kind]
    pool = Pool(runtime, SHAPE)
    pipeline = make_pipeline(runtime, model, pool, depth, static_output=kind == "graph")
    wrong = 0
    for batches in (1, 3, 20):
        first = pool.taken
        runtime.delivered.clear()
        pipeline.run(batches, 1e9)
        expected = [MODELS[kind](pool.batch(first + index)) for index in range(batches)]
        assert len(runtime.delivered) == batches
        pairs = zip(runtime.delivered, expected, strict=True)
        wrong += sum(not torch.equal(output, right) for output, right in pairs)
    return wrong


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("depth", range(1, 9))
def test_the_pipeline_is_right_in_every_order(depth: int, kind: str) -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)

        assert run(runtime, kind, depth) == 0
        assert [str(race) for race in runtime.races] == []


def mutants() -> dict[str, tuple[Callable[[int], OrderingRuntime], str, str, str]]:
    """Name -> the device with the defect, the kind of output, and the two kinds that race."""
    return {
        "H2D does not wait until its input is free": (
            lambda seed: WithoutWait("H2D", "compute", seed),
            "fresh",
            "compute",
            "H2D",
        ),
        "compute does not wait for its input": (
            lambda seed: WithoutWait("compute", "H2D", seed),
            "fresh",
            "H2D",
            "compute",
        ),
        "compute does not wait until its output is free": (
            lambda seed: WithoutWait("compute", "D2H", seed),
            "fresh",
            "D2H",
            "compute",
        ),
        "D2H does not wait for the output": (
            lambda seed: WithoutWait("D2H", "compute", seed),
            "fresh",
            "compute",
            "D2H",
        ),
        "a no-op's input is released early": (EarlyInputRelease, "no-op", "D2H", "H2D"),
        "the static output is not cloned": (WithoutClone, "graph", "D2H", "compute"),
        "the output is released early": (EarlyOutputRelease, "fresh", "D2H", "compute"),
    }


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("name", mutants())
def test_every_defect_is_caught_and_named(name: str, depth: int) -> None:
    make, kind, first, second = mutants()[name]
    for seed in SEEDS:
        runtime = make(seed)
        run(runtime, kind, depth)

        pairs = {(race.first.split()[0], race.second.split()[0]) for race in runtime.races}
        assert pairs == {(first, second)}
        race = runtime.races[0]
        assert f"missing is a wait of {race.second} for the end of {race.first}" in str(race)


@pytest.mark.parametrize("name", mutants())
def test_every_defect_shows_in_an_output_too(name: str) -> None:
    """The queue really runs in an order that a defect allows: values go wrong, not only clocks."""
    make, kind, _, __ = mutants()[name]

    assert sum(run(make(seed), kind, 2) for seed in range(12)) > 0


def test_freed_memory_goes_to_the_stream_that_owns_it() -> None:
    runtime = OrderingRuntime()
    one, other = runtime.new_stream(), runtime.new_stream()
    with runtime.use_stream(one):
        tensor = runtime.empty((4,), torch.float32)
        address = tensor.data_ptr()
        view = tensor[1:]
        del tensor
        assert runtime.empty((4,), torch.float32).data_ptr() != address  # the view keeps it
        del view
    with runtime.use_stream(other):
        assert runtime.empty((4,), torch.float32).data_ptr() != address
    with runtime.use_stream(one):
        again = {runtime.empty((4,), torch.float32).data_ptr() for _ in range(2)}
    assert address in again


def test_peak_memory_counts_what_lives_at_a_time() -> None:
    runtime = OrderingRuntime()
    first = runtime.empty((100,), torch.float32)
    del first
    second = runtime.empty((50,), torch.float32)
    assert runtime.peak_memory_bytes() == 400
    runtime.reset_peak_memory()
    assert runtime.peak_memory_bytes() == second.numel() * 4


def test_a_copy_of_memory_that_is_not_registered_is_refused() -> None:
    runtime = OrderingRuntime()
    target = runtime.empty((4,), torch.float32)
    with pytest.raises(MachineError, match="not registered"):
        runtime.copy(target, torch.zeros(4))


def test_an_event_that_has_not_happened_has_no_time() -> None:
    runtime = OrderingRuntime()
    stream, event = runtime.new_stream(), runtime.new_event()
    source = Pool(runtime, (4,)).first_batch()
    with runtime.use_stream(stream):
        runtime.copy(runtime.empty((4,), torch.float32), source)
    event.record(stream)
    with pytest.raises(RuntimeError, match="synchronise first"):
        event.elapsed_time(event)
    runtime.synchronize()
    assert event.elapsed_time(event) == 0


def test_synchronous_copies_bring_values_in_and_out() -> None:
    runtime = OrderingRuntime()
    value = torch.arange(6.0).view(2, 3)
    assert torch.equal(runtime.to_host(runtime.to_device(value)), value)
    assert runtime.races == []


def graph_step(runtime: OrderingRuntime, *, join: bool = True) -> tuple[list[bool], list[str]]:
    """A whole step as a graph that forks to a copy stream; whether outputs were right, races."""
    pool, target = Pool(runtime, SHAPE, batches=1), torch.zeros(2, 5)
    runtime.register_host(target.data_ptr(), target.numel() * 4)
    main, side = runtime.new_stream(), runtime.new_stream()
    device_input = runtime.empty(SHAPE, torch.float32)
    fork, done = runtime.new_event(), runtime.new_event()

    def submit() -> None:
        runtime.copy(device_input, pool.first_batch())
        output = runtime.call_model(double, device_input)
        fork.record(main)
        side.wait_event(fork)
        with runtime.use_stream(side):
            runtime.copy(target, output)
            done.record(side)
        if join:
            main.wait_event(done)

    replay = runtime.capture_graph(submit, main)
    right = []
    for value in range(6):
        runtime.synchronize()
        pool.tensor.fill_(value)
        with runtime.use_stream(main):
            replay()
            replay()
        runtime.synchronize()
        right.append(bool((target == 2 * value + 1).all()))
    return right, [str(race) for race in runtime.races]


def test_a_captured_step_replays_in_order() -> None:
    for seed in SEEDS:
        assert graph_step(OrderingRuntime(seed)) == ([True] * 6, [])


def test_a_wait_that_a_captured_step_lacks_is_named() -> None:
    _, races = graph_step(WithoutWait("D2H", "compute"))

    assert any("D2H 0 reads device block" in race for race in races)


def test_a_capture_has_the_rules_of_cuda() -> None:
    runtime = OrderingRuntime()
    with pytest.raises(RuntimeError, match="unjoined work: D2H"):
        graph_step(runtime, join=False)
    main, outside, event = runtime.new_stream(), runtime.new_stream(), runtime.new_event()
    tensor = runtime.empty((4,), torch.float32)
    with runtime.use_stream(outside):
        runtime.clone(tensor)
    event.record(outside)
    with pytest.raises(RuntimeError, match="uncaptured work"):
        runtime.capture_graph(lambda: main.wait_event(event), main)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        runtime.capture_graph(runtime.synchronize, main)
