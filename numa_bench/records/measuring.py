"""How workers measure, where plans and configurations depend on it."""

from __future__ import annotations

#: How many times each stage is timed by itself on a GPU.
ALONE_REPEATS = 24
#: Fewest batches of a block of warm-up: the fewest with a median that one outlier does not move.
LEAST_BLOCK = 3
#: What the memory kernels on the CPU do.
OPERATIONS = ("read", "write", "copy")
#: What they move at a time: a cache line of most CPUs.
LINE_BYTES = 64
