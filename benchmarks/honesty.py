"""Rates of false claims and of detected effects on simulated studies.

    python benchmarks/honesty.py [--studies 400] [--out benchmarks/results/honesty-NAME.json]

Studies are simulated with a known truth (tests/fake_families.py), measured in shuffled blocks, and
judged by the code that judges real ones. Realistic noise: 1 % between runs, throughput drifting by
3 % over the study, 5 % of the runs 5 to 10 % slow. Uneven: settings whose noise differs as well,
its logarithm with a standard deviation of 0.7. A family is all comparisons of one study.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fake_families import CLEAN, Design, Outcome, outcome
from tests.fake_pipeline import Noise

REAL = Noise(drift=-0.03)
EFFECT = -0.03
#: Settings, placements, repeats; and how many studies of the full number are simulated.
DESIGNS = (
    (1, 2, 5, 1.0),
    (1, 2, 10, 1.0),
    (2, 2, 5, 1.0),
    (3, 2, 5, 1.0),
    (4, 2, 5, 1.0),
    (6, 2, 3, 1.0),
    (6, 2, 5, 1.0),
    (6, 2, 10, 0.5),
    (6, 4, 5, 0.5),
    (48, 2, 5, 0.3),
)
_Job = tuple[str, Design, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    jobs: list[_Job] = []
    for settings, placements, repeats, share in DESIGNS:
        for name, noise, uneven in (
            ("clean", CLEAN, 0.0),
            ("real", REAL, 0.0),
            ("uneven", REAL, 0.7),
        ):
            design = Design(settings, placements, repeats, 0.0, noise, uneven)
            studies = int(args.studies * share)
            for effect, number in ((0.0, studies), (EFFECT, studies // 4)):
                seed = args.seed + 100_000 * len(jobs)  # every line draws its own noise
                jobs.append((name, replace(design, effect=effect), number, seed))
    with ProcessPoolExecutor() as pool:
        outcomes = list(pool.map(_judged, jobs))
    print(
        f"{'design':<10} {'noise':<7} {'studies':>7}  {'false':>6} {'found':>6} {'any':>6} "
        f"{'cover':>6}"
    )
    rows = []
    for (name, design, studies, _), none, some in zip(
        jobs[::2], outcomes[::2], outcomes[1::2], strict=True
    ):
        shape = f"{design.settings}x{design.placements}x{design.repeats}"
        print(
            f"{shape:<10} {name:<7} {studies:>7}  {none.families:6.3f} {some.claims:6.3f} "
            f"{some.families:6.3f} {none.coverage:6.3f}"
        )
        rows.append(
            {
                "design": {**asdict(design), "kind": name},
                "studies_without_effect": studies,
                "families_with_a_false_claim": none.families,
                "coverage_of_95_percent_intervals": none.coverage,
                "median_detectable": none.detectable,
                "studies_with_effect": studies // 4,
                "effect": EFFECT,
                "comparisons_found": some.claims,
                "studies_with_a_finding": some.families,
            }
        )
    report = {"cpus": os.cpu_count(), "seconds": round(time.monotonic() - start), "results": rows}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def _judged(job: _Job) -> Outcome:
    _, design, studies, seed = job
    return outcome(design, studies, seed)


if __name__ == "__main__":
    main()
