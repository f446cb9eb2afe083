"""The CUDA pipeline under every order of its operations that streams and events allow."""

from __future__ import annotations

import pytest
import torch

from numa_bench.errors import MachineError
from numa_bench.worker.pipelines import cuda_pipeline
from numa_bench.worker.pipelines.cuda_pipeline import CudaPipeline
from numa_bench.worker.pipelines.pipeline import Limits
from tests.simulation.handles import StaticOutputModel
from tests.simulation.mutants import LOST_CAPTURES, LOST_WAITS, build_mutants
from tests.simulation.ordering import OrderingRuntime
from tests.simulation.pipelines import PRODUCT, Classes, RecordingPool, make_pipeline

pytestmark = pytest.mark.slow

SHAPE = (2, 3, 4)
SEEDS = range(8)
DEPTHS = range(1, 9)
#: Batches in one graph by depth: the pool's five, rounded up to whole rounds of the slots.
STEPS = {1: 5, 2: 6, 3: 6, 4: 8, 5: 5, 6: 6, 7: 7, 8: 8}


def double(batch: torch.Tensor) -> torch.Tensor:
    """A model with a fresh output of another size than its input."""
    return batch.flatten(1)[:, :5] * 2 + 1


def no_op(batch: torch.Tensor) -> torch.Tensor:
    return batch


MODELS = {"no-op": no_op, "fresh": double, "graph": double}


def make(
    runtime: OrderingRuntime, kind: str, depth: int, *, graph: bool = False, classes: Classes
) -> tuple[CudaPipeline, RecordingPool]:
    """A pipeline whose model has this kind of output."""
    model = StaticOutputModel(double) if kind == "graph" else MODELS[kind]
    pool = RecordingPool(runtime, SHAPE)
    static = kind == "graph"
    made = make_pipeline(
        runtime, model, pool, depth, static_output=static, graph=graph, classes=classes
    )
    return made, pool


def run(runtime: OrderingRuntime, kind: str, depth: int, classes: Classes = PRODUCT) -> int:
    """Batches through the pipeline in several windows; how many outputs were wrong."""
    pipeline, pool = make(runtime, kind, depth, classes=classes)
    for batches in (1, 3, 20):
        pipeline.run(Limits(batches))
    assert len(runtime.delivered) == 24
    return count_wrong(runtime.delivered, pool.given, kind)


def replay(runtime: OrderingRuntime, kind: str, depth: int, classes: Classes = PRODUCT) -> int:
    """Batches through the captured pipeline; how many outputs were wrong."""
    pipeline, pool = make(runtime, kind, depth, graph=True, classes=classes)
    windows = [pipeline.run(Limits(batches)) for batches in (1, 20)]
    replayed = sum(window.batches for window in windows)
    eager, captured = pool.given[: -STEPS[depth]], pool.given[-STEPS[depth] :]
    assert replayed % len(captured) == 0
    expected = [*eager, *captured * (replayed // len(captured))]
    assert len(runtime.delivered) == len(expected)
    return count_wrong(runtime.delivered, expected, kind)


def count_wrong(outputs: list[torch.Tensor], inputs: list[torch.Tensor], kind: str) -> int:
    """How many of the outputs are not the model's."""
    pairs = zip(outputs, inputs, strict=True)
    return sum(not torch.equal(output, MODELS[kind](source)) for output, source in pairs)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_pipeline_is_right_in_every_order(depth: int, kind: str) -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)

        assert run(runtime, kind, depth) == 0
        assert [str(race) for race in runtime.races] == []


@pytest.mark.parametrize("kind", ["no-op", "fresh"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_replayed_pipeline_is_right_in_every_order(depth: int, kind: str) -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)

        assert replay(runtime, kind, depth) == 0
        assert [str(race) for race in runtime.races] == []


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_a_window_that_times_a_sample_of_its_batches_is_right_too(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_pipeline, "MOST_TIMED", 4)
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)
        pipeline, pool = make(runtime, "fresh", depth, classes=PRODUCT)

        assert [pipeline.run(Limits(batches)).stride for batches in (20, 3, 9)] == [5, 1, 3]
        assert count_wrong(runtime.delivered, pool.given, "fresh") == 0
        assert runtime.races == []


@pytest.mark.parametrize(
    ("kind", "graph"), [*((kind, False) for kind in MODELS), ("no-op", True), ("fresh", True)]
)
def test_stages_by_themselves_race_with_nothing(kind: str, graph: bool) -> None:
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)
        # With seven slots the ring of outputs is longer than the pool.
        pipeline, pool = make(runtime, kind, 7, graph=graph, classes=PRODUCT)
        for _ in range(2):
            pipeline.run(Limits(8))
            assert torch.equal(pipeline.last_output(), MODELS[kind](pool.last_batch()))
            pipeline.time_stages()
            assert torch.equal(pipeline.last_output(), MODELS[kind](pool.last_batch()))
        assert [str(race) for race in runtime.races] == []


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("name", LOST_WAITS)
def test_every_defect_is_caught_and_named(name: str, depth: int) -> None:
    mutant = LOST_WAITS[name]
    classes = build_mutants(mutant.old, mutant.new)
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)
        run(runtime, mutant.output, depth, classes)

        assert racing_kinds(runtime) == {mutant.race}
        race = runtime.races[0]
        assert f"missing is a wait of {race.second} for the end of {race.first}" in str(race)


@pytest.mark.parametrize("name", [name for name, m in LOST_WAITS.items() if m.output != "graph"])
def test_every_defect_is_caught_in_a_replay(name: str) -> None:
    mutant = LOST_WAITS[name]
    classes = build_mutants(mutant.old, mutant.new)
    for seed in SEEDS:
        runtime = OrderingRuntime(seed)
        replay(runtime, mutant.output, 2, classes)

        assert racing_kinds(runtime) == {mutant.race}


@pytest.mark.parametrize("name", LOST_WAITS)
def test_every_defect_shows_in_an_output_too(name: str) -> None:
    """The queue really runs in an order that a defect allows: values go wrong, not only clocks."""
    mutant = LOST_WAITS[name]
    classes = build_mutants(mutant.old, mutant.new)

    assert sum(run(OrderingRuntime(seed), mutant.output, 2, classes) for seed in range(12)) > 0


@pytest.mark.parametrize("name", LOST_CAPTURES)
def test_a_capture_that_is_not_closed_is_refused(name: str) -> None:
    old, new, message = LOST_CAPTURES[name]

    with pytest.raises(RuntimeError, match=message):
        replay(OrderingRuntime(), "fresh", 2, build_mutants(old, new))


def test_a_mutant_that_changes_nothing_is_refused() -> None:
    for old in ("no such line", "slot.output"):
        with pytest.raises(LookupError, match="not once"):
            build_mutants(old, "pass")


def racing_kinds(runtime: OrderingRuntime) -> set[tuple[str, str]]:
    """The kinds of operation that race, the one submitted first first."""
    return {(race.first.split()[0], race.second.split()[0]) for race in runtime.races}


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
    pool = RecordingPool(runtime, (4,))
    with runtime.use_stream(stream):
        runtime.copy(runtime.empty((4,), torch.float32), pool.first_batch())
    event.record(stream)
    assert not event.query()
    with pytest.raises(RuntimeError, match="synchronise first"):
        event.elapsed_time(event)
    runtime.synchronize()
    assert event.query()
    assert event.elapsed_time(event) == 0


def test_synchronous_copies_bring_values_in_and_out() -> None:
    runtime = OrderingRuntime()
    value = torch.arange(6.0).view(2, 3)
    assert torch.equal(runtime.to_host(runtime.to_device(value)), value)
    assert runtime.races == []


def graph_step(
    runtime: OrderingRuntime, *, fork_late: bool = True, join: bool = True
) -> tuple[list[bool], list[str]]:
    """A whole step as a graph that forks to a copy stream; whether outputs were right, races."""
    pool, target = RecordingPool(runtime, SHAPE), torch.zeros(2, 5)
    runtime.register_host(target.data_ptr(), target.numel() * 4)
    main, side = runtime.new_stream(), runtime.new_stream()
    device_input = runtime.empty(SHAPE, torch.float32)
    fork, done = runtime.new_event(), runtime.new_event()

    def submit() -> None:
        runtime.copy(device_input, pool.first_batch())
        if not fork_late:
            fork.record(main)
        output = runtime.call_model(double, device_input)
        if fork_late:
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
        pool.first_batch().fill_(value)
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
    _, races = graph_step(OrderingRuntime(), fork_late=False)

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
