"""What the sensor readings beside every run cost."""

from __future__ import annotations

import contextlib

from numa_bench.records import JsonDict
from numa_bench.selftest.checks import Check, Figure, Limit, Waived
from numa_bench.selftest.context import NO_OP, Context
from numa_bench.selftest.paired import Comparison, compare_pairs, take_pairs
from numa_bench.selftest.sampler import start_sampler
from numa_bench.selftest.workbench import make_bench
from numa_bench.worker.pipelines.pipeline import Limits

#: Largest share of a throughput that readings may cost: the limit that this program has for
#: profilers too, far below the differences that it looks for.
COST_MOST = 0.005
#: Largest share of one CPU's time that readings may take.
CPU_MOST = 0.01


def measure_cost(context: Context) -> Figure | Waived:
    """Throughput lost to the monitor, in alternated pairs of windows with and without it.

    A window is as long as the interval between readings, so that each has at least one.
    """
    bench = make_bench(context, NO_OP if context.cuda else context.models[1])
    batches = bench.find_batch_count(context.monitor_interval_s)
    costs: list[JsonDict] = []
    with start_sampler(bench.spec, context.monitor_interval_s) as sampler:

        def measure(sampled: bool) -> float:
            with sampler.sample(costs) if sampled else contextlib.nullcontext():
                window = bench.pipeline.run(Limits(batches))
            return window.wall_s / window.batches

        pairs = take_pairs(lambda: measure(True), lambda: measure(False), context.slow_pairs)
    return judge_cost(compare_pairs(pairs), sum(cost["readings"] for cost in costs))


def judge_cost(slowdown: Comparison, readings: int) -> Figure | Waived:
    """The least cost that the pairs allow: what is proven. `slowdown` is the time with readings
    over the time without."""
    text = f"{slowdown.median - 1:.2%} ({slowdown.low - 1:.2%} to {slowdown.high - 1:.2%})"
    if readings == 0:
        raise RuntimeError("the monitor took no reading")
    if not slowdown.decides:
        return Waived(f"pairs scatter too widely, stop other programs: {text}")
    note = f"at least; median and interval {text}, {readings} readings"
    return Figure(max(0.0, slowdown.low - 1) * 100, note, slowdown.to_dict())


def measure_cpu_time(context: Context) -> Figure:
    """CPU time of one reading over the interval between readings."""
    costs: list[JsonDict] = []
    spec, interval_s = context.make_spec(NO_OP), context.monitor_interval_s
    # Sampled as densely as possible: the first reading of a process costs more than the others.
    bench = make_bench(context, NO_OP)
    with start_sampler(spec, interval_s / 20) as sampler, sampler.sample(costs):
        bench.pipeline.run(Limits(1, least_s=interval_s))
    readings, cpu_s = costs[0]["readings"], costs[0]["cpu_s"]
    if readings == 0:
        raise RuntimeError("the monitor took no reading")
    share = cpu_s / readings / interval_s
    note = f"{cpu_s / readings * 1e3:.2f} ms for a reading, one every {interval_s:g} s"
    return Figure(share * 100, note, {"readings": readings, "cpu_s": cpu_s})


CHECKS = (
    Check(
        "CPU time of the monitor",
        "how much of one CPU do the sensor readings take?",
        "% of a CPU",
        Limit(most=CPU_MOST * 100),
        measure_cpu_time,
    ),
    Check(
        "cost of the monitor",
        "do the sensor readings beside a run slow it down?",
        "% of time",
        Limit(most=COST_MOST * 100),
        measure_cost,
    ),
)
