"""Does the product's pipeline lose anything to bare copies, or to a plain loop, and does it hide
copies?"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.records import JsonDict
from numa_bench.records.workload import copy_bytes
from numa_bench.selftest.checks import Check, Figure, Limit, Waived
from numa_bench.selftest.context import NO_OP, Context
from numa_bench.selftest.paired import Comparison, compare_pairs, take_pairs
from numa_bench.selftest.raw_copies import D2H, H2D
from numa_bench.selftest.subjects.copies import make_copies
from numa_bench.selftest.workbench import Bench, PlainLoop, make_bench
from numa_bench.worker.pipelines.metrics import is_host_bound, window_metrics
from numa_bench.worker.pipelines.pipeline import Limits

#: Requirements on the product: what its pipeline may cost.
NO_OP_LEAST = 0.95
OVERLAP_LEAST = 0.97
#: "Not slower" means that the interval of the ratio reaches this: a plain loop that is really
#: equally fast would be called faster by one comparison in forty otherwise.
NOT_SLOWER = 0.98
#: A window's first copy in and last copy out are hidden by nothing, which costs one part in so many
#: of the overlap.
_LEAST_BATCHES = 200
#: Models of the check on a host without a GPU: those that two cores run hundreds of times a second.
_CPU_MODELS = 2


def check_no_op(context: Context) -> Figure:
    """Copy rate of the no-op pipeline, relative to bare copies of the same size both ways."""
    runtime = context.require_cuda().runtime
    sample = copy_bytes(context.make_spec(NO_OP, batch_size=1))[0]
    batch_size = math.ceil(context.copy_bytes / sample)
    bench = make_bench(context, NO_OP, batch_size=batch_size)
    raw = make_copies(context)
    # Long windows: the first copy in and the last copy out have no partner.
    batches = bench.find_batch_count(context.window_s / 2)

    def measure_pipeline() -> float:
        window = bench.pipeline.run(Limits(batches))
        return window.batches * batch_size * sample / window.wall_s / 1e9

    pairs = take_pairs(measure_pipeline, lambda: raw.measure_rate(H2D, D2H), context.pairs)
    bench.check_output()
    runtime.synchronize()
    ratio = compare_pairs(pairs)
    pipeline, bare = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    note = f"{pipeline:.1f} GB/s in each direction, bare copies {bare:.1f} GB/s"
    return Figure(ratio.median, note, {"gb_per_s": pipeline, "raw": bare, **ratio.to_dict()})


@dataclass(frozen=True)
class Overlap:
    """How well one model hides its copies. `efficiency` None: there is nothing to hide."""

    efficiency: float | None
    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    host_bound: bool
    cuda_graph: bool

    @property
    def copy_bound(self) -> bool:
        """Whether a copy takes longer than the compute, which then cannot hide it."""
        return max(self.h2d_ms, self.d2h_ms) > self.compute_ms


def check_overlap(context: Context) -> Figure | Waived:
    """The least overlap efficiency of the models whose compute can hide the copies.

    A model that the host submits too slowly is measured as a CUDA graph, as the documentation
    advises for it.
    """
    overlaps = {}
    for vit in context.models:
        overlap = _measure_overlap(context, vit, cuda_graph=False)
        if overlap.host_bound and not overlap.copy_bound:
            overlap = _measure_overlap(context, vit, cuda_graph=True)
        overlaps[context.make_spec(vit).vit.name] = overlap
    return judge_overlaps(overlaps)


def judge_overlaps(overlaps: Mapping[str, Overlap]) -> Figure | Waived:
    """The worst of the models that count; a model does not where a copy is its longest stage."""
    hidden = {
        name: overlap.efficiency
        for name, overlap in overlaps.items()
        if not overlap.copy_bound and overlap.efficiency is not None
    }
    names = ", ".join(name for name in overlaps if name not in hidden)
    if not hidden:
        return Waived(f"copies take longer than the compute of every model: {names}")
    worst = min(hidden, key=lambda name: hidden[name])
    parts = [f"worst of {len(hidden)}: {worst}"]
    graphs = [name for name in hidden if overlaps[name].cuda_graph]
    if graphs:
        parts.append(f"as CUDA graph: {', '.join(graphs)}")
    if names:
        parts.append(f"limited by copies: {names}")
    details = {name: dict(vars(overlap)) for name, overlap in overlaps.items()}
    return Figure(hidden[worst], "; ".join(parts), details)


def _measure_overlap(context: Context, vit: ViTConfig, *, cuda_graph: bool) -> Overlap:
    bench = make_bench(context, vit, cuda_graph=cuda_graph)
    bench.find_batch_count(context.window_s / 2)
    window = bench.pipeline.run(Limits(_LEAST_BATCHES, least_s=context.window_s))
    bench.check_output()
    alone = bench.pipeline.time_stages()
    metrics = window_metrics(window, bench.spec.test.batch_size, *copy_bytes(bench.spec), alone)
    return Overlap(
        metrics["overlap_efficiency"],
        metrics["h2d_ms"] or 0.0,
        metrics["compute_ms"] or 0.0,
        metrics["d2h_ms"] or 0.0,
        is_host_bound(metrics),
        cuda_graph,
    )


def compare_plain_loop(context: Context) -> Figure | Waived:
    """Time of a plain loop over the pipeline's time, in alternated pairs, for every model."""
    models = context.models if context.cuda else context.models[:_CPU_MODELS]
    compared = {}
    for vit in models:
        bench = make_bench(context, vit)
        compared[bench.spec.vit.name] = _compare_with_loop(context, bench)
    return judge_plain_loops(compared)


def judge_plain_loops(compared: Mapping[str, Comparison]) -> Figure | Waived:
    """The best that the pairs allow for the worst model; models whose pairs scatter too widely to
    decide anything do not count."""
    decided = {name: ratio for name, ratio in compared.items() if ratio.decides}
    scattered = describe_scatter(name for name in compared if name not in decided)
    if not decided:
        return Waived(scattered)
    worst = min(decided, key=lambda name: decided[name].high)
    note = f"at most, worst of {len(decided)}: {worst} {decided[worst]}"
    details: JsonDict = {name: ratio.to_dict() for name, ratio in compared.items()}
    return Figure(decided[worst].high, "; ".join(filter(None, [note, scattered])), details)


def describe_scatter(names: Iterable[str]) -> str:
    """Why these models are not counted; empty if there are none."""
    listed = ", ".join(names)
    return f"pairs scatter too widely, stop other programs: {listed}" if listed else ""


def _compare_with_loop(context: Context, bench: Bench) -> Comparison:
    loop = PlainLoop(bench, context.cuda.tools if context.cuda else None)
    # Many short windows: their median is surer than that of a few long ones.
    batches = bench.find_batch_count(context.window_s / 20)
    loop.run(batches)

    def measure_pipeline() -> float:
        window = bench.pipeline.run(Limits(batches))
        return window.wall_s / window.batches

    measure_loop = functools.partial(lambda: loop.run(batches) / batches)
    ratio = compare_pairs(take_pairs(measure_loop, measure_pipeline, context.pairs))
    bench.check_output()
    return ratio


CHECKS = (
    Check(
        "no-op pipeline",
        "does the pipeline copy as fast as bare copies of the same size?",
        "of bare copies",
        Limit(least=NO_OP_LEAST),
        check_no_op,
        needs_gpu=True,
    ),
    Check(
        "overlap",
        "does the pipeline hide copies behind the compute of every model of numa_study?",
        "hidden",
        Limit(least=OVERLAP_LEAST),
        check_overlap,
        needs_gpu=True,
        timeout_s=180,
    ),
    Check(
        "plain loop",
        "is the pipeline never slower than a plain loop of non_blocking copies?",
        "of its speed",
        Limit(least=NOT_SLOWER),
        compare_plain_loop,
        timeout_s=180,
    ),
)
