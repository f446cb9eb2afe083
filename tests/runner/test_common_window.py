"""What a worker did in the window that its set has in common."""

from __future__ import annotations

import pytest

from numa_bench.records import MEASURED, Member, RunResult
from numa_bench.runner.sets.common_window import CommonWindow, measure_rate
from tests.specs import make_spec


@pytest.mark.parametrize("waited_s", [0.0, 0.5])
def test_batches_count_from_the_first_copy_not_from_the_window(waited_s: float) -> None:
    """A GPU's clock knows nothing of the host work on the first batch, which is in the window."""
    batch_s, batches, begin = 0.1, 20, 1000.0
    spec = make_spec(kind="cuda")
    result = RunResult(
        spec.run_id,
        spec.cell_hash(),
        "passed",
        metrics={"measured_samples": batches * spec.test.batch_size},
        samples={
            "start_ms": [1e3 * batch_s * i for i in range(batches)],
            "latency_ms": [1e3 * batch_s] * batches,
        },
        observed={
            "timed_stride": 1,
            "window_host_s": [begin, begin + waited_s + batches * batch_s],
        },
    )
    common = CommonWindow(begin, begin + 1.5, 1.0)

    rate = measure_rate(Member("a", MEASURED, spec), result, common)

    # The first batch ends one batch's time after the wait; it counts evenly from the beginning.
    done = (1.5 - waited_s) / batch_s
    assert rate == pytest.approx(done * spec.test.batch_size / 1.5)
