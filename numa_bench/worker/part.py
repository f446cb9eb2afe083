"""Some of a run's result: what a worker's steps yield as soon as it is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from numa_bench.records import JsonDict


@dataclass(frozen=True)
class Part:
    """Some of a run's result. `problem`: why the run is invalid; `checkpoint`: write what there is
    so far, because what follows may end the process."""

    metrics: dict[str, float | None] = field(default_factory=dict)
    observed: JsonDict = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    warmup_samples: dict[str, list[float]] = field(default_factory=dict)
    warmup: JsonDict = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    series: tuple[JsonDict, ...] = ()
    problem: str | None = None
    checkpoint: bool = False
