"""Defects put into the source of the product, one at a time: of its pipelines, or of any module.

`LOST_WAITS` are the seven that a device could show: four waits that are missing, and memory that is
given away early in three ways. `LOST_HOST_WAITS` are those of batches that host work makes,
`LOST_CAPTURES` those of the CUDA graph's own.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from unittest import mock

from numa_bench.worker.host_stage import feeds
from numa_bench.worker.pipelines import cuda_pipeline, graph_pipeline
from tests.simulation.pipelines import Classes

_PRODUCT = (cuda_pipeline, graph_pipeline, feeds)


@dataclass(frozen=True)
class Mutant:
    """One place of the source, and what is there instead.

    `output` is the kind of output that shows the defect ("no-op", "fresh" or "graph"), `race` the
    two kinds of operation that race: the one submitted first comes first.
    """

    old: str
    new: str
    output: str
    race: tuple[str, str]


LOST_WAITS = {
    "H2D does not wait until its input is free": Mutant(
        "h2d.wait_event(slot.input_free)", "pass", "fresh", ("compute", "H2D")
    ),
    "compute does not wait for its input": Mutant(
        "compute.wait_event(event.h2d_end)", "pass", "fresh", ("H2D", "compute")
    ),
    "compute does not wait until its output is free": Mutant(
        "compute.wait_event(slot.output_free)", "pass", "fresh", ("D2H", "compute")
    ),
    "D2H does not wait for the output": Mutant(
        "d2h.wait_event(event.compute_end)", "pass", "fresh", ("compute", "D2H")
    ),
    "a no-op's input is released early": Mutant(
        "serial = no_op or ", "serial = ", "no-op", ("D2H", "H2D")
    ),
    "the static output is not cloned": Mutant(
        "return self._runtime.clone(output) if self.static_output else output",
        "return output",
        "graph",
        ("D2H", "compute"),
    ),
    "the output is released early": Mutant(
        "slot.output = output\n", "pass\n", "fresh", ("D2H", "compute")
    ),
}
#: Defects between host work and copies: `output` is always that of a pipeline with host work.
LOST_HOST_WAITS = {
    "a host batch is rewritten while it is copied": Mutant(
        "copied.synchronize()", "pass", "host", ("H2D", "host")
    ),
    "the copy of a host batch counts as ended too early": Mutant(
        "self._copy(slot.device_input, source)\n            event.h2d_end.record(h2d)\n"
        "            self.pool.release_batch(h2d)\n",
        "self.pool.release_batch(h2d)\n            self._copy(slot.device_input, source)\n"
        "            event.h2d_end.record(h2d)\n",
        "host",
        ("H2D", "host"),
    ),
    "the host runs a batch too far ahead": Mutant(
        "for _ in range(min(batches, self.batches)):",
        "for _ in range(min(batches, self.batches + 1)):",
        "host",
        ("host", "H2D"),
    ),
}
#: Name -> source, what is there instead, and what CUDA says to the capture.
LOST_CAPTURES = {
    "the streams do not fork from the captured one": (
        "                stream.wait_event(fork)\n",
        "                pass\n",
        "H2D on a stream that is not part of the capture",
    ),
    "the last copies are not joined": (
        "(slot.events.h2d_end, slot.events.compute_end, slot.events.d2h_end)",
        "(slot.events.h2d_end, slot.events.compute_end)",
        "capture has unjoined work: D2H",
    ),
    "events of before the capture are waited for": (
        "slot.input_free = slot.output_free = slot.output = None\n",
        "slot.output = None\n",
        "dependency created on uncaptured work",
    ),
}


def build_mutants(old: str, new: str) -> Classes:
    """The product's pipelines with `old`, which occurs once in their source, replaced.

    Raises LookupError where it does not: the product has changed, and the mutant has to follow.
    """
    sources = {module.__name__: inspect.getsource(module) for module in _PRODUCT}
    count = sum(source.count(old) for source in sources.values())
    if count != 1 or old == new:
        raise LookupError(f"{old!r} occurs {count} times in {', '.join(sources)}, not once")
    # The graph pipeline's import finds the mutant of its base class.
    with mock.patch.dict(sys.modules):
        for name, source in sources.items():
            module = sys.modules[name] = ModuleType(name)
            exec(compile(source.replace(old, new), f"mutant of {name}", "exec"), vars(module))
        cuda, graph, feed = (sys.modules[name] for name in sources)
    return Classes(cuda.CudaPipeline, graph.GraphPipeline, feed.AheadFeed)


def mutate_module(module: ModuleType, old: str, new: str) -> ModuleType:
    """A copy of a module with `old`, which occurs once in its source, replaced.

    Raises LookupError where it does not.
    """
    source = inspect.getsource(module)
    if source.count(old) != 1 or old == new:
        raise LookupError(f"{old!r} occurs {source.count(old)} times in {module.__name__}")
    mutant = ModuleType(module.__name__)
    # A dataclass looks for its module there.
    with mock.patch.dict(sys.modules, {module.__name__: mutant}):
        exec(
            compile(source.replace(old, new), f"mutant of {module.__name__}", "exec"), vars(mutant)
        )
    return mutant
