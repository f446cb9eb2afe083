"""How often verdicts are right, on simulated studies whose truth is known.

    python benchmarks/honesty.py [--scale 1] [--workers 2] [--only 1x2x5 6x2x5]
                                 [--out benchmarks/results/NAME.json]

Studies are simulated under the noise models of tests/fake_noise.py, which were fixed before the
statistics were tuned, and judged by the code that judges real ones: single comparisons (each model
and GPU by itself) and pooled contrasts. Every goal has a row with its figure, standard error and
whether it is met; all other figures follow. `--scale 0.1` simulates a tenth of the studies.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# Before numpy: each worker has a core of its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from numa_bench.machine.environment import describe_environment  # noqa: E402
from tests import honesty_figures  # noqa: E402
from tests.fake_families import Design  # noqa: E402
from tests.fake_noise import MODELS  # noqa: E402
from tests.honesty_figures import Rate, summarise  # noqa: E402

#: Name: models, GPUs, placements, repeats.
DESIGNS = {
    "1x2x5": Design(1, 1, 2, 5),
    "1x2x10": Design(1, 1, 2, 10),
    "6x2x3": Design(6, 1, 2, 3),
    "6x2x5": Design(6, 1, 2, 5),
    "6x4x5": Design(6, 1, 4, 5),
    "6 GPUs x 1x2x3": Design(1, 6, 2, 3),
    "6 GPUs x 1x2x5": Design(1, 6, 2, 5),
    "8 GPUs x 6x4x5": Design(6, 8, 4, 5),
}
LARGE = "8 GPUs x 6x4x5"
SINGLES, POOLED = "measure_singles", "measure_pooled"
DETECT_SINGLE, DETECT_POOLED = "measure_detectable_single", "measure_detectable_pooled"
LOOKS = "measure_looks"
#: One setting is the same whether it belongs to a model or to a GPU.
_SAME_SINGLES = ("6 GPUs x 1x2x3", "6 GPUs x 1x2x5")
#: What one task of a worker simulates.
_CHUNK = 25


@dataclass(frozen=True)
class Job:
    """Studies of one kind: a function of tests/honesty_figures.py, a design, a noise model."""

    measure: str
    design: str
    noise: str
    studies: int
    effect: float = 0.0
    affected: int | None = None
    last_only: bool = False
    varied: bool = False

    def make_design(self) -> Design:
        return replace(
            DESIGNS[self.design],
            noise=MODELS[self.noise],
            effect=self.effect,
            affected=self.affected,
            last_only=self.last_only,
            varied=self.varied,
        )


@dataclass(frozen=True)
class Goal:
    """A figure of some jobs, and the range in which it must be: `least` to `most`."""

    question: str
    measure: str
    figure: str
    designs: tuple[str, ...]
    noises: tuple[str, ...]
    least: float = 0.0
    most: float = 1.0
    effect: float = 0.0
    varied: bool | None = None

    def matches(self, job: Job) -> bool:
        return (
            job.measure == self.measure
            and job.design in self.designs
            and job.noise in self.noises
            and job.effect == self.effect
            and self.varied in (None, job.varied)
        )


_ALL, _ALL_NOISES = tuple(DESIGNS), tuple(MODELS)
_ONE_SIDED_NOISE = ("noisy remote", "noisy local")
_OF_THREE = tuple(name for name in DESIGNS if name.endswith("3"))
_POWER = (0.76, 0.84)
_DETECT = (
    *((design, "clean") for design in ("1x2x5", "1x2x10", "6x2x5", "6x4x5")),
    ("6x2x5", "real"), (LARGE, "real"),
)  # fmt: skip
GOALS = (
    Goal("noise differs by placement: false claim of a single comparison", SINGLES, "false",
         ("1x2x5", "6x2x5", LARGE), _ONE_SIDED_NOISE, most=0.06),
    Goal("noise differs by placement: coverage of single intervals", SINGLES, "coverage",
         ("1x2x5", "6x2x5", LARGE), _ONE_SIDED_NOISE, least=0.92),
    Goal("two states of the clock: false claim of a single comparison", SINGLES, "false",
         ("6x2x5", LARGE), ("two modes",), most=0.08),
    Goal("outliers: single effects of 3 % found", SINGLES, "found",
         ("6x2x5",), ("real",), least=0.81, effect=-0.03),
    Goal("error shared by a block and placement: false pooled claim", POOLED, "false",
         ("6x2x5", "6x2x3"), ("shared",), most=0.06),
    Goal("an effect of exactly the detectable size is found (single)", DETECT_SINGLE, "power",
         _ALL, _ALL_NOISES, *_POWER, varied=False),
    Goal("the same after the verdict 'no difference' (single)", DETECT_SINGLE,
         "power_after_no_difference", _ALL, _ALL_NOISES, *_POWER, varied=True),
    Goal("an effect of exactly the detectable size is found (pooled)", DETECT_POOLED, "power",
         _ALL, _ALL_NOISES, *_POWER, varied=False),
    Goal("the same after 'no difference' (pooled)", DETECT_POOLED,
         "power_after_no_difference", _ALL, _ALL_NOISES, *_POWER, varied=True),
    Goal("'repeat with N' finds 2 % (single)", DETECT_SINGLE, "repeats_enough",
         _ALL, _ALL_NOISES, least=0.80, varied=True),
    Goal("'repeat with N' finds 2 % (pooled)", DETECT_POOLED, "repeats_enough",
         _ALL, _ALL_NOISES, least=0.80, varied=True),
    Goal("1.5 % of the last placement in 3 of 6 models: found pooled by model", POOLED, "found",
         (LARGE,), ("real",), least=0.95, effect=-0.015),
    Goal("the same: false pooled claim", POOLED, "false",
         (LARGE,), ("real",), most=0.055, effect=-0.015),
    Goal("no effect: false pooled claim", POOLED, "false", _ALL, _ALL_NOISES, most=0.06),
    Goal("no effect: coverage of pooled intervals", POOLED, "coverage", _ALL, _ALL_NOISES,
         least=0.93),
    Goal("a true 2 % is called equal within 2 %", POOLED, "false_equal", _ALL, _ALL_NOISES,
         most=0.05, effect=-0.02),
    Goal("3 repeats: coverage of single intervals", SINGLES, "coverage", _OF_THREE, _ALL_NOISES,
         least=0.93),
    Goal("3 repeats: coverage of pooled intervals", POOLED, "coverage", _OF_THREE, _ALL_NOISES,
         least=0.93),
)  # fmt: skip
#: Single false claims that are counted on more studies, for a smaller standard error.
_WATCHED = {
    *((design, noise) for design in ("1x2x5", "6x2x5", LARGE) for noise in _ONE_SIDED_NOISE),
    ("6x2x5", "two modes"), (LARGE, "two modes"),
}  # fmt: skip


def list_jobs() -> list[Job]:
    """All that is simulated at scale 1: about 45 minutes on two cores."""
    jobs = [job for noise in MODELS for design in DESIGNS for job in _list_false(design, noise)]
    for noise in ("clean", "real", "noisy remote", "two modes"):
        for design in ("1x2x5", "6x2x5", LARGE):
            jobs.append(Job(SINGLES, design, noise, 100 if design == LARGE else 300, effect=-0.03))
    jobs += [Job(POOLED, design, "real", 400, effect=-0.02) for design in DESIGNS]
    for measure, studies in ((SINGLES, 100), (POOLED, 1000)):
        jobs.append(Job(measure, LARGE, "real", studies, effect=-0.015, affected=3, last_only=True))
    for design, noise in _DETECT:
        few = 3 if design == LARGE else 1
        jobs += [
            Job(DETECT_SINGLE, design, noise, 400 // few),
            Job(DETECT_SINGLE, design, noise, 1000 // few, varied=True),
            Job(DETECT_POOLED, design, noise, 600),
            Job(DETECT_POOLED, design, noise, 1200, varied=True),
        ]
    return jobs + [Job(LOOKS, design, "real", 200) for design in ("1x2x5", "6x2x5", "6x4x5")]


def _list_false(design: str, noise: str) -> Iterator[Job]:
    """Studies without an effect."""
    few = 2 if design == LARGE else 1
    if design not in _SAME_SINGLES:
        many = 4 if (design, noise) in _WATCHED else 1
        yield Job(SINGLES, design, noise, 250 * many // few)
    yield Job(POOLED, design, noise, 800 // few)


def run_chunk(task: tuple[Job, list[int]]) -> list[dict[str, float]]:
    """The figures of the studies with these seeds."""
    job, seeds = task
    measure, design = getattr(honesty_figures, job.measure), job.make_design()
    return [measure(design, seed) for seed in seeds]


def run_jobs(jobs: Sequence[Job], seed: int, workers: int) -> list[dict[str, Rate]]:
    """The averaged figures of each job, with a line of progress."""
    tasks = []
    for i, job in enumerate(jobs):
        # Every job draws its own noise; studies of a job differ by one.
        seeds = [seed + 100_000 * (i + 1) + k for k in range(job.studies)]
        tasks += [(job, seeds[k : k + _CHUNK]) for k in range(0, len(seeds), _CHUNK)]
    figures: dict[Job, list[dict[str, float]]] = {job: [] for job in jobs}
    start = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        done = pool.map(run_chunk, tasks)
        for k, (task, rows) in enumerate(zip(tasks, done, strict=True), 1):
            figures[task[0]] += rows
            print(f"\r{k} of {len(tasks)} parts, {time.monotonic() - start:.0f} s", end="")
    print()
    return [summarise(figures[job]) for job in jobs]


def list_rows(jobs: Sequence[Job], rates: Sequence[dict[str, Rate]]) -> Iterator[dict[str, Any]]:
    """One row per goal and job."""
    for goal in GOALS:
        for job, figures in zip(jobs, rates, strict=True):
            if not goal.matches(job) or goal.figure not in figures:
                continue
            rate = figures[goal.figure]
            yield {
                "question": goal.question,
                "design": job.design,
                "noise": job.noise,
                **_write_rate(rate),
                "goal": [goal.least, goal.most],
                "met": goal.least <= rate.value <= goal.most,
                # By chance alone a figure is two standard errors off in one of twenty rows.
                "met_within_2_errors": goal.least - 2 * rate.error
                <= rate.value
                <= goal.most + 2 * rate.error,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    jobs = [replace(job, studies=max(2, int(job.studies * args.scale))) for job in list_jobs()]
    jobs = [job for job in jobs if job.design in args.only]
    rates = run_jobs(jobs, args.seed, args.workers)
    rows = list(list_rows(jobs, rates))
    for row in rows:
        print(
            f"{'met' if row['met'] else 'NOT':<4}{row['question'][:68]:<69}{row['design']:<15}"
            f"{row['noise']:<14}{row['value']:6.3f} +- {row['error'] or 0:.3f} of {row['studies']}"
        )
    report = {
        "environment": describe_environment(PROJECT),
        "seed": args.seed,
        "scale": args.scale,
        "seconds": round(time.monotonic() - start),
        "rows": rows,
        "figures": [
            {**asdict(job), "figures": {name: _write_rate(rate) for name, rate in figures.items()}}
            for job, figures in zip(jobs, rates, strict=True)
        ],
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def _write_rate(rate: Rate) -> dict[str, Any]:
    """Four digits; null for the error of a single study."""
    error = None if math.isnan(rate.error) else round(rate.error, 4)
    return {"value": round(rate.value, 4), "error": error, "studies": rate.studies}


if __name__ == "__main__":
    main()
