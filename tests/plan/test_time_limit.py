"""Estimates of a study's duration, and what a time limit leaves of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas.output import ProfilerConfig
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.plan.estimates import bound_run_s, estimate_run_s
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.plan.time_limit import StudyClock
from numa_bench.profiling.launch import Profiler
from numa_bench.records import Expectation, Record
from numa_bench.runner.display.time_limits import describe_limit
from tests.fake_worker import make_plan
from tests.machines import laptop, make_gpu, make_node, server
from tests.specs import make_spec

Plans = Callable[..., Plan]


def planned(limit: Any, own: Any = None, repeats: int = 5, profiler: str = "none") -> Plan:
    """A study of one model in two placements of one GPU: blocks of two runs."""
    study = ExperimentConfig(
        name="study",
        vit_configs=[ViTConfig(depth=2, dim=128)],
        hardware=HardwareConfig(gpu_ids=[0], numa_nodes="all"),
        repeats=repeats,
        time_limit=own,
    )
    config = RunnerConfig(experiment=study, time_limit=limit)
    machine = server()
    used = Profiler("nsys", ProfilerConfig(kind=profiler)) if profiler != "none" else None
    return build_plan(config, machine, machine.gpus, profiler=used)


BLOCK_S = planned(None, repeats=1).estimated_s


def eight_gpus_on_four_nodes() -> Topology:
    """Two sockets of two nodes, two GPUs on each node."""
    nodes = tuple(
        replace(
            make_node(
                i,
                range(24 * i, 24 * i + 24),
                {j: 10 if i == j else 12 if i // 2 == j // 2 else 32 for j in range(4)},
                memory_gib=256,
            ),
            socket=i // 2,
        )
        for i in range(4)
    )
    return Topology(nodes=nodes, gpus=tuple(make_gpu(i, i // 2) for i in range(8)))


# --- estimates


def expecting(batch_s: float, **test: Any) -> Any:
    return replace(make_spec(**test), expected=Expectation("compute", batch_s))


def test_a_run_that_counts_samples_takes_as_long_as_its_batches() -> None:
    short, long = expecting(0.01, num_samples=200), expecting(0.01, num_samples=400)

    assert estimate_run_s(long) - estimate_run_s(short) == pytest.approx(100 * 0.01)


def test_budgets_end_warm_up_and_window() -> None:
    slow = expecting(0.5, num_samples=10_000, time_budget_s=4, warmup_budget_s=1)

    assert estimate_run_s(slow) == bound_run_s(slow) == 3 + 4 + 1
    # A batch that has begun is finished.
    assert estimate_run_s(replace(slow, expected=Expectation("compute", 60.0))) == 3 + 60 + 60


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_what_is_expected_is_within_the_bound(kind: str, compiled: bool) -> None:
    run = make_spec(kind=kind, compile_model=compiled, num_samples=0, min_timed_s=2, min_warmup_s=1)
    run = replace(run, expected=Expectation("link", 0.001))

    assert 5 < estimate_run_s(run) <= bound_run_s(run)


def test_nothing_predicted_means_that_budgets_are_used_up() -> None:
    run = make_spec(num_samples=100, time_budget_s=4, warmup_budget_s=2)

    assert estimate_run_s(run) == bound_run_s(run) == 3 + 4 + 2


def test_a_run_never_lasts_longer_than_its_timeout() -> None:
    assert estimate_run_s(expecting(100.0, timeout_s=7)) == 7


# --- limits


@pytest.mark.parametrize(
    ("limit", "own", "blocks"),
    [
        (None, None, 5),
        ("auto", None, 5),
        ("1h", "1s", 5),
        (None, "1s", 5),
        ("auto", 2.5 * BLOCK_S, 2),
        (3.01 * BLOCK_S, None, 3),
        (3.01 * BLOCK_S, 1.5 * BLOCK_S, 3),
        (1.0, None, 1),
    ],
)
def test_whole_blocks_are_cut(limit: Any, own: Any, blocks: int) -> None:
    plan = planned(limit, own)
    whole = planned(None)

    assert plan.runs == whole.runs[: 2 * blocks]
    assert plan.cut == whole.runs[2 * blocks :]
    assert plan.cells == whole.cells
    assert plan.estimated_s == pytest.approx(blocks * BLOCK_S)


def test_profiles_that_nobody_asked_for_give_way_to_repeats() -> None:
    with_profile = planned(None, profiler="auto", repeats=1).estimated_s
    assert with_profile > BLOCK_S

    short = planned(5 * BLOCK_S + 1, profiler="auto")
    assert (short.profiler.kind, len(short.cut)) == ("none", 0)
    assert "no profile: " in (short.profiler.note or "")
    assert {run.profile.kind for run in short.runs} == {"none"}
    asked = planned(5 * BLOCK_S + 1, profiler="nsys")
    assert asked.profiler.kind == "nsys"
    assert len(asked.cut) > 0
    assert planned(5 * with_profile + 1, profiler="auto").profiler.kind == "nsys"


def test_the_default_study_takes_two_hours_at_most_on_eight_gpus(plan: Plans) -> None:
    """CPUs and memory local and remote, and both on the other node of the socket."""
    study = plan(eight_gpus_on_four_nodes())

    assert len(study.cells) == 8 * 5 * 6
    labels = Counter(cell.placement.label for cell in study.cells)
    both = ("local", "local/remote", "remote/local", "remote", "same_socket")
    assert labels == dict.fromkeys(both, 8 * 6)
    assert study.estimated_s <= 7200
    assert study.time_limit is not None
    assert (study.time_limit.repeats, study.time_limit.kept) == (5, 4)
    assert study.longest_s > study.estimated_s


def test_a_small_machine_keeps_every_repeat_of_the_default_study(plan: Plans) -> None:
    study = plan(laptop())

    assert study.cut == ()
    assert study.time_limit is not None
    assert study.time_limit.limit_s == 7200


def test_what_is_advised_for_a_verdict_gives_enough_repeats(plan: Plans) -> None:
    machine = eight_gpus_on_four_nodes()
    (fits, few) = describe_limit(plan(machine, "time_limit=1h"))
    assert fits.startswith("2 of 5 repeats fit")

    limit, gpus = re.findall(r"time_limit=\w+|experiment.max_gpus=\d+", few)

    for advice in (limit,), (gpus, "time_limit=1h"):
        kept = plan(machine, *advice).time_limit
        assert kept is not None
        assert kept.kept == 3


# --- while a study runs


class FakeClock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def records(*durations: float) -> list[Record]:
    return [{"duration_s": seconds} for seconds in durations]  # type: ignore[typeddict-item]


def test_a_block_must_fit_with_the_pace_so_far() -> None:
    clock = FakeClock()
    study = StudyClock(100.0, 2, [], clock)
    assert study.allows(2)  # nothing is known yet

    clock.now += 50
    study.count_run()
    assert study.allows(2)  # the first block is not complete
    study.count_run()
    assert study.allows(2)  # 50 s are left for 50 s
    clock.now += 1
    assert not study.allows(2)
    assert study.allows(1)  # the rest of a block that was interrupted


def test_earlier_starts_count() -> None:
    study = StudyClock(100.0, 2, records(30, 30), FakeClock())

    assert study.elapsed_s == 60
    assert not study.allows(2)
    assert StudyClock(None, 2, records(3000, 3000), FakeClock()).allows(2)


def test_a_plan_that_is_cut_twice_remembers_everything() -> None:
    plan = make_plan(["a", "b"], repeats=4)
    once = plan.cut_after(3)
    twice = once.cut_after(1)

    assert (len(once.runs), len(once.cut)) == (6, 2)
    assert (*twice.runs, *twice.cut) == plan.runs
    assert {run.repeat for run in twice.runs} == {0}
