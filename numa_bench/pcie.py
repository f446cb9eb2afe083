"""How fast a PCIe link can be at most.

Raw rate per lane and encoding by generation (PCI-SIG base specifications 1.0 to 6.0): 2.5 and 5
GT/s with 8b/10b, 8, 16 and 32 GT/s with 128b/130b, 64 GT/s in 256-byte FLITs of which 236 are for
packets. The limit is per direction and before packet headers, which take some 5 to 20 % more.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Giga-transfers per second and lane (one bit each), and the share that encoding leaves.
GENERATIONS = {
    1: (2.5, 8 / 10),
    2: (5.0, 8 / 10),
    3: (8.0, 128 / 130),
    4: (16.0, 128 / 130),
    5: (32.0, 128 / 130),
    6: (64.0, 236 / 256),
}
WIDTHS = (1, 2, 4, 8, 12, 16, 32)


@dataclass(frozen=True)
class Link:
    """A PCIe link; `source` names where generation and width come from."""

    generation: int
    width: int
    source: str

    @property
    def gb_per_s(self) -> float:
        """GB/s per direction, before packet headers."""
        rate, kept = GENERATIONS[self.generation]
        return rate * kept * self.width / 8

    def __str__(self) -> str:
        return format_link(self.generation, self.width)


def format_link(generation: float, width: float) -> str:
    """Generation and width as "PCIe 5.0 x16"."""
    return f"PCIe {generation:.0f}.0 x{width:.0f}"


def make_link(generation: float, width: float, source: str) -> Link | None:
    """The link of this generation and width, or None where there is no such PCIe link."""
    if generation not in GENERATIONS or width not in WIDTHS:
        return None
    return Link(int(generation), int(width), source)
