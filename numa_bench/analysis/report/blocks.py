"""The parts of the page: pictures, blocks, sections, headlines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from numa_bench.analysis.report.columns import Table


@dataclass(frozen=True)
class Picture:
    """A plot on the page: a data URL, its size in CSS pixels, and how to read it."""

    stem: str
    caption: str
    url: str
    width: int
    height: int

    def is_of(self, stem: str) -> bool:
        """Whether this is the picture with that stem, of any group."""
        return self.stem == stem or self.stem.rpartition("_")[0] == stem


#: Selects the pictures with the given stems.
Pick = Callable[..., list[Picture]]


@dataclass(frozen=True)
class Block:
    """Part of a section: a heading, a remark, pictures, a table; any of them may be empty.

    `code` is shown as it is. With `folded` table and code are collapsed below this label, with
    `closed` the whole block, which then needs no title.
    """

    title: str = ""
    note: str = ""
    pictures: Sequence[Picture] = ()
    table: Table | None = None
    folded: str = ""
    closed: str = ""
    lines: Sequence[str] = ()
    code: str = ""


@dataclass(frozen=True)
class Section:
    """A section with an anchor; without blocks it is not shown."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Headline:
    """One verdict at the top."""

    kind: str
    sign: str
    label: str
    text: str
    details: Sequence[str]
    where: str = ""
