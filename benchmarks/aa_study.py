"""A/A: the same placement twice under two labels. An honest tool finds no difference.

    python benchmarks/aa_study.py [--repeats 10] [--out benchmarks/results/aa-NAME.json]

Two models that differ in nothing but their name run `repeats` times each in shuffled blocks. Shown:
both medians, their ratio, and a permutation test on the difference of means (scipy). On an idle
machine p is anything from 0 to 1, and below 0.05 once in twenty such studies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import permutation_test

PROJECT = Path(__file__).resolve().parent.parent
MODELS = (
    "experiment.vit_configs=[{name:a,patch_size:32,depth:2,dim:128},"
    "{name:b,patch_size:32,depth:2,dim:128}]"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", help="more settings, key=value")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(
            [
                sys.executable,
                PROJECT / "hydra_experiment_runner.py",
                "experiment=quick_test",
                MODELS,
                f"experiment.repeats={args.repeats}",
                f"hydra.run.dir={root}/aa",
                *args.overrides,
            ],
            check=True,
        )
        records = json.loads((Path(root) / "aa" / "results.json").read_text())
        summary = json.loads((Path(root) / "aa" / "experiment_summary.json").read_text())
    found = {
        name: [r["throughput_samples_per_s"] for r in records if r["vit_name"] == name]
        for name in "ab"
    }

    def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.mean(a, axis=axis) - np.mean(b, axis=axis))

    test = permutation_test(
        (found["a"], found["b"]), difference, vectorized=True, n_resamples=9999, rng=0
    )
    medians = {name: statistics.median(values) for name, values in found.items()}
    report = {
        "medians_samples_per_s": medians,
        "ratio_b_to_a": medians["b"] / medians["a"],
        "p_value": float(test.pvalue),
        "throughput_samples_per_s": found,
        "warnings": [r["warnings"] for r in records],
        "summary": summary,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"A/A over {args.repeats} repeats: a {medians['a']:.1f}, b {medians['b']:.1f} samples/s, "
        f"b/a {report['ratio_b_to_a'] - 1:+.2%}, p = {test.pvalue:.2f}"
    )


if __name__ == "__main__":
    main()
