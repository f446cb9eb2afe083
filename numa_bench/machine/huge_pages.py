"""Which part of a memory range the kernel backs with transparent huge pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SMAPS = Path("/proc/self/smaps")


def measure_huge_fraction(address: int, nbytes: int, smaps: Path = SMAPS) -> float | None:
    """Part of `nbytes` bytes from `address` in transparent huge pages, by AnonHugePages of smaps.

    A mapping counts as a whole, so the range should be one. None where smaps cannot be read, or
    has no such mapping (proc(5)).
    """
    try:
        text = smaps.read_text()
    except OSError:
        return None
    size = huge = 0
    for begin, end, huge_bytes in _mappings(text):
        if begin < address + nbytes and address < end:
            size, huge = size + end - begin, huge + huge_bytes
    return huge / size if size else None


def _mappings(text: str) -> Iterator[tuple[int, int, int]]:
    """Begin, end and AnonHugePages in bytes of every mapping."""
    begin = end = 0
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":") and "-" in first:
            low, _, high = first.partition("-")
            begin, end = int(low, 16), int(high, 16)
        elif first == "AnonHugePages:":
            yield begin, end, int(rest.split()[0]) * 1024
