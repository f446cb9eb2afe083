"""A STREAM-like memory benchmark in numpy: copy and triad over arrays larger than caches.

    python examples/own_workloads/stream.py [--mb 256] [--rounds 5]

Counted as STREAM does (McCalpin 1995): bytes read plus bytes written, the best of all rounds. numpy
computes triad in two passes, which move 5 arrays in place of 3.
"""

from __future__ import annotations

import argparse
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=256, help="size of each of three arrays")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    size = args.mb * 1_000_000 // 8
    a, b, c = (np.full(size, value) for value in (1.0, 2.0, 0.0))
    copies, triads = [], []
    for _ in range(args.rounds):
        begin = time.perf_counter()
        np.copyto(c, a)
        middle = time.perf_counter()
        np.multiply(b, 3.0, out=c)
        np.add(a, c, out=c)
        triads.append(time.perf_counter() - middle)
        copies.append(middle - begin)
    print(f"copy {2 * a.nbytes / min(copies) / 1e9:.3f} GB/s")
    print(f"triad {5 * a.nbytes / min(triads) / 1e9:.3f} GB/s")


if __name__ == "__main__":
    main()
