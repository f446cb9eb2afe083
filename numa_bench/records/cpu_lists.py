"""Lists of CPUs, nodes and other ids as the Linux kernel writes them: "0-3,8". Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Linux supports at most 8192 CPUs; a damaged "0-9999999999" must not exhaust memory.
_MAX_ID = 1 << 16


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The numbers in a kernel list such as "0-3,8,10-11", sorted and unique; "" gives ().

    The format is that of `cpulist` and `online` files (admin-guide/cputopology.rst). Raises
    ValueError for anything else.
    """
    numbers: set[int] = set()
    for item in text.strip().split(",") if text.strip() else ():
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", item.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < _MAX_ID:
            raise ValueError(f"{item[:40]!r} is not a number or a range such as 0-3")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The inverse of `parse_cpu_list`: (0, 1, 2, 8) gives "0-2,8", which numactl accepts."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
