"""A pipeline's windows beside the other workers of its set, before the timed one."""

from __future__ import annotations

from numa_bench.records import REHEARSAL_S
from numa_bench.worker.pipelines.pipeline import Limits, Pipeline
from numa_bench.worker.sets.rendezvous import Clock, Rendezvous

#: The rehearsal is cut into windows of this length, so that all workers end it at the same time.
REHEARSED_AT_ONCE_S = 0.1
#: It holds so many batches at least, if REHEARSAL_S permits: the first one and the last one overlap
#: less than the others, so few batches do not say how long one more takes.
REHEARSED_BATCHES = 8


def rehearse(pipeline: Pipeline, clock: Clock, rendezvous: Rendezvous) -> None:
    """Run batches beside the other workers for REHEARSAL_S, then wait for the timed window.

    On CUDA the number of batches of a window follows from the time per batch of the one before,
    which is longer beside others than it was in the warm-up.
    """
    end = rendezvous.start_together(clock) + REHEARSAL_S
    while clock.host_time() < end:
        pipeline.run(Limits(REHEARSED_BATCHES, REHEARSAL_S, REHEARSED_AT_ONCE_S))
    rendezvous.start_together(clock)
