"""Cut a study to a time limit: whole blocks only, so that every cell keeps as many repeats. Pure.

A block is every cell once. Cutting inside one would leave cells with different numbers of repeats,
and comparisons across blocks that drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from numa_bench.config.durations import parse_duration
from numa_bench.config.schema import EXPERIMENTS_OWN, ExperimentConfig, RunnerConfig
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.records import Record, RunSpec


@dataclass(frozen=True)
class TimeLimit:
    """What a time limit in seconds leaves of a study: `kept` of `repeats` blocks.

    `block_s` is the expected length of one block.
    """

    limit_s: float
    repeats: int
    kept: int
    block_s: float

    @property
    def is_exceeded(self) -> bool:
        """Whether not even one block fits; it runs all the same."""
        return self.block_s > self.limit_s


def read_time_limit(config: RunnerConfig) -> float | None:
    """The limit of a study in seconds: the runner's, or the experiment's where that has none."""
    if config.time_limit == EXPERIMENTS_OWN:
        return parse_duration("experiment.time_limit", config.experiment.time_limit)
    return parse_duration("time_limit", config.time_limit)


def fit_blocks(
    cells: Sequence[RunSpec], experiment: ExperimentConfig, limit_s: float | None
) -> TimeLimit | None:
    """How many blocks are expected to fit into the limit, at least one; None without a limit."""
    if limit_s is None:
        return None
    block_s = sum(map(estimate_run_s, cells))
    kept = experiment.repeats if block_s <= 0 else int(limit_s / block_s)
    return TimeLimit(limit_s, experiment.repeats, min(max(1, kept), experiment.repeats), block_s)


def split_runs(
    runs: Iterable[RunSpec], kept: int
) -> tuple[tuple[RunSpec, ...], tuple[RunSpec, ...]]:
    """The runs of the first `kept` blocks, and those of the others."""
    everything = tuple(runs)
    return (
        tuple(run for run in everything if run.repeat < kept),
        tuple(run for run in everything if run.repeat >= kept),
    )


class StudyClock:
    """The time that a study has taken, all its starts together, and what a run takes on average.

    `limit_s` None: everything fits. `block_size` is the number of cells: until that many runs have
    ended, nothing is known about the length of a block, and it runs. `clock` returns seconds.
    """

    def __init__(
        self,
        limit_s: float | None,
        block_size: int,
        earlier: Sequence[Record],
        clock: Callable[[], float],
    ) -> None:
        self._limit_s = limit_s
        self._block_size = block_size
        self._earlier_s = sum(record["duration_s"] for record in earlier)
        self._runs = len(earlier)
        self._clock = clock
        self._began = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds of this start, and of the runs of earlier ones."""
        return self._earlier_s + self._clock() - self._began

    def allows(self, runs: int) -> bool:
        """Whether a block with so many runs still to do is expected to end within the limit."""
        if self._limit_s is None or self._runs < max(1, self._block_size):
            return True
        elapsed_s = self.elapsed_s
        return elapsed_s + runs * elapsed_s / self._runs <= self._limit_s

    def count_run(self) -> None:
        """Note that a run has ended."""
        self._runs += 1


def split_blocks(runs: Iterable[RunSpec]) -> Iterator[tuple[int, list[RunSpec]]]:
    """The runs of each block, with its number, in the order given."""
    for repeat, block in groupby(runs, key=lambda run: run.repeat):
        yield repeat, list(block)
