"""Upper limits of numbers: a value beyond them can only fail once it is used. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from numa_bench.errors import ConfigError

#: Waiting calls take milliseconds in a C int (poll(2)), which ends after 24 days.
MOST_SECONDS = 1_000_000
#: Sizes and counts are C ints in torch and in libraries below it.
MOST_COUNT = 2**31 - 1
#: What torch.manual_seed takes, and what readers of JSON keep as a 64-bit integer.
MOST_SEED = 2**63 - 1
#: The most CPUs that a Linux kernel can be built for (CONFIG_NR_CPUS_RANGE_END on x86-64).
MOST_THREADS = 8192
#: The user address space of x86-64 with four-level page tables, in bytes.
MOST_BYTES = 2**47
_OTHER_LIMITS = {
    "seed": MOST_SEED,
    "order_seed": MOST_SEED,
    "cpu_threads": MOST_THREADS,
    "host_threads": MOST_THREADS,
    "background_threads": MOST_THREADS,
    "workers_per_node": MOST_THREADS,
    "sizes": MOST_BYTES,
}
#: Not ours to limit: arguments of a model, and lists of numbers that are checked as such.
_SKIPPED = {"args", "gpu_ids", "numa_nodes", "memory_nodes", "physcpu"}


def check_magnitudes(config: Any) -> None:
    """Raise ConfigError for the first number of a config object that is too large to be used."""
    for key, name, value in _list_numbers(config, ""):
        if name.endswith("_s"):
            if MOST_SECONDS < value < math.inf:  # what is not finite has a message of its own
                raise ConfigError(
                    key, value, f"must be at most {MOST_SECONDS} seconds, which are 11 days"
                )
        elif isinstance(value, int) and value > (most := _OTHER_LIMITS.get(name, MOST_COUNT)):
            raise ConfigError(key, value, f"must be at most {most}")


def _list_numbers(value: Any, key: str, name: str = "") -> Iterator[tuple[str, str, float]]:
    """Key, last name and value of each number in a config object."""
    if is_dataclass(value):
        for f in fields(value):
            if f.name not in _SKIPPED:
                below = f"{key}.{f.name}".lstrip(".")
                yield from _list_numbers(getattr(value, f.name), below, f.name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _list_numbers(item, f"{key}[{index}]", name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key, name, value
