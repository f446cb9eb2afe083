"""Huge pages as the kernel reports them."""

from __future__ import annotations

import pytest
import torch

from numa_bench.machine import huge_pages
from numa_bench.machine.huge_pages import (
    measure_huge_fraction,
    parse_huge_fraction,
    read_huge_page_bytes,
)
from numa_bench.worker.buffers import HostBuffer

SMAPS = """\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
Rss:                4096 kB
AnonHugePages:      2048 kB
7f0000400000-7f0000800000 rw-p 00000000 00:00 0
Rss:                4096 kB
AnonHugePages:      4096 kB
7f0000800000-7f0000900000 r-xp 00000000 08:01 123                        /lib/libc.so.6
Rss:                   0 kB
AnonHugePages:         0 kB
"""


@pytest.mark.parametrize(
    ("address", "nbytes", "fraction"),
    [
        (0x7F0000000000, 4096, 0.5),
        (0x7F0000400000, 4096, 1.0),
        (0x7F0000000000, 0x800000, 0.75),
        (0x7F0000800000, 4096, None),  # nothing of it is in memory
        (0x1000, 4096, None),
    ],
)
def test_the_part_in_huge_pages(address: int, nbytes: int, fraction: float | None) -> None:
    assert parse_huge_fraction(SMAPS, address, nbytes) == fraction


def test_memory_of_this_process_is_found() -> None:
    buffer = HostBuffer((4096,), torch.int64)

    fraction = measure_huge_fraction(buffer.address, buffer.nbytes)

    assert fraction is not None
    assert 0 <= fraction <= 1


@pytest.mark.parametrize(("text", "nbytes"), [("536870912", 536870912), (None, 2097152)])
def test_the_size_of_a_huge_page(
    text: str | None, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huge_pages, "read_kernel_setting", lambda _: text)

    assert read_huge_page_bytes() == nbytes
