"""Rates of false claims, false alarms and found changes when a study is measured on other days.

    python benchmarks/compare_honesty.py [--comparisons 600] [--out benchmarks/results/NAME.json]

Comparisons are simulated with a known truth (tests/fake_days.py): every day measures all cells in
shuffled blocks, with 1 % noise between runs, throughput drifting by 3 % over the day, and 5 % of
the runs 5 to 10 % slow. Days differ: the level of all cells by 1 % (one standard deviation), and a
single cell on a day by 0, 0.5 or 1 % beyond that. Judged by the code that judges real studies. An
alarm is what fails `fail_on_regression=1`. Without a change every claim and every alarm is false;
then one cell is 5 % slower after, or all are. Two lines more have days that differ by 0.2 and 3 %.
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

from tests.fake_days import Days, DaysOutcome, judge_days, judge_single_day

FALL = -0.05
#: Cells (2x2, 6x2 and 48 of models x placements), and the share of comparisons that is simulated.
CELLS = ((4, 1.0), (12, 1.0), (48, 0.5))
BEFORE = (1, 2, 3, 4, 5)
CELL_SD = (0.0, 0.005, 0.01)
#: Days whose levels differ less, and more, than those for which the method was made.
LEVEL_SD = (0.002, 0.03)
#: One day on each side is judged by permutation, which takes much longer.
_SINGLE_SHARE = 0.25
_Job = tuple[Days, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    designs = [
        (Days(cells=cells, before=before, cell_sd=cell_sd), share)
        for cells, share in CELLS
        for before in BEFORE
        for cell_sd in CELL_SD
    ]
    designs += [(Days(before=3, level_sd=level_sd), 1.0) for level_sd in LEVEL_SD]
    jobs: list[_Job] = []
    for design, share in designs:
        number = int(args.comparisons * share * (_SINGLE_SHARE if design.before == 1 else 1))
        for changed, part in ((design, 1), (_one(design), 2), (_all(design), 2)):
            # Every line draws its own noise.
            jobs.append((changed, number // part, args.seed + 100_000 * len(jobs)))
    with ProcessPoolExecutor() as pool:
        outcomes = list(pool.map(_judged, jobs))
    print(
        f"{'cells':>5} {'before':>6} {'level':>6} {'cell':>6}  {'false':>6} {'alarm':>6} "
        f"{'cover':>6} {'own':>6}  {'one':>6} {'alarm':>6}  {'all':>6} {'alarm':>6}"
    )
    rows = []
    for (design, number, _), none, one, common in zip(
        jobs[::3], outcomes[::3], outcomes[1::3], outcomes[2::3], strict=True
    ):
        print(
            f"{design.cells:>5} {design.before:>6} {design.level_sd:6.3f} {design.cell_sd:6.3f}  "
            f"{none.claims:6.3f} {none.alarms:6.3f} {none.shift_coverage:6.3f} "
            f"{none.own_coverage:6.3f}  {one.single:6.3f} {one.alarms:6.3f}  {common.shift:6.3f} "
            f"{common.alarms:6.3f}"
        )
        rows.append(
            {
                "design": asdict(design),
                "comparisons_without_change": number,
                "comparisons_with_a_change": number // 2,
                "change": FALL,
                "without_change": asdict(none),
                "one_cell_slower": asdict(one),
                "all_cells_slower": asdict(common),
            }
        )
    report = {"cpus": os.cpu_count(), "seconds": round(time.monotonic() - start), "results": rows}
    if args.out:
        # NaN is not JSON: what one day on each side does not estimate is null.
        text = json.dumps(report, indent=1).replace("NaN", "null")
        args.out.write_text(text + "\n")


def _one(design: Days) -> Days:
    return replace(design, single=FALL)


def _all(design: Days) -> Days:
    return replace(design, shift=FALL)


def _judged(job: _Job) -> DaysOutcome:
    design, number, seed = job
    judge = judge_single_day if design.before == 1 else judge_days
    return judge(design, number, seed)


if __name__ == "__main__":
    main()
