"""How much of some memory of this process is really in huge pages, and how large those are."""

from __future__ import annotations

import re
from pathlib import Path

from numa_bench.machine.sysfs import read_kernel_setting

_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
#: Where the kernel does not say (Linux before 4.20): that of most machines.
_USUAL_BYTES = 2 * 1024 * 1024
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")


def read_huge_page_bytes() -> int:
    """The size of a transparent huge page (admin-guide/mm/transhuge.rst)."""
    text = read_kernel_setting(_SIZE) or ""
    return int(text) if text.isdigit() and int(text) else _USUAL_BYTES


def measure_huge_fraction(address: int, nbytes: int) -> float | None:
    """The part of the mappings around a range that is in transparent huge pages.

    None where /proc/self/smaps cannot be read or does not have the range. The kernel may have
    joined the mapping with others of the same kind, which then count as well.
    """
    try:
        text = Path("/proc/self/smaps").read_text()
    except OSError:
        return None
    return parse_huge_fraction(text, address, nbytes)


def parse_huge_fraction(text: str, address: int, nbytes: int) -> float | None:
    """`measure_huge_fraction` from the text of smaps (filesystems/proc.rst): Rss, AnonHugePages."""
    resident = huge = 0
    inside = False
    for line in text.splitlines():
        mapping = _MAPPING.match(line)
        if mapping is not None:
            begin, end = (int(number, 16) for number in mapping.groups())
            inside = begin < address + nbytes and address < end
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1])
        elif inside and line.startswith("AnonHugePages:"):
            huge += int(line.split()[1])
    return huge / resident if resident else None
