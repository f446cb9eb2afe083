"""The cells of several jobs as those of one study: each once, with the jobs that want it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numa_bench.errors import ConfigError
from numa_bench.records import RunSpec


def merge_cells(
    overrides: Sequence[Sequence[str]], cells: Sequence[Sequence[RunSpec]]
) -> tuple[list[RunSpec], list[str]]:
    """Every distinct cell of the jobs, in their order, and warnings.

    `overrides` are those in which each job differs from the others, `cells` what it plans. A cell
    of several jobs is measured once, and gets the overrides that these jobs share. Raises
    ConfigError where two jobs have the same cells: nothing distinguishes them.
    """
    planned = [{cell.cell_hash(): cell for cell in own} for own in cells]
    _refuse_equal_jobs(overrides, planned)
    distinct: dict[str, RunSpec] = {}
    owners: dict[str, list[int]] = {}
    for number, by_hash in enumerate(planned):
        for key, cell in by_hash.items():
            distinct.setdefault(key, cell)
            owners.setdefault(key, []).append(number)
    merged = []
    for key, cell in distinct.items():
        first, *others = (overrides[number] for number in owners[key])
        shared = tuple(word for word in first if all(word in other for other in others))
        merged.append(replace(cell, sweep_jobs=tuple(owners[key]), sweep_overrides=shared))
    several = sum(len(numbers) > 1 for numbers in owners.values())
    warnings = []
    if several:
        what = "1 cell is" if several == 1 else f"{several} cells are"
        warnings.append(f"interleave: {what} the same in several jobs; each is measured once")
    return merged, warnings


def _refuse_equal_jobs(
    overrides: Sequence[Sequence[str]], planned: Sequence[dict[str, RunSpec]]
) -> None:
    """Raise ConfigError if two jobs have the same cells."""
    found: dict[frozenset[str], int] = {}
    for number, by_hash in enumerate(planned):
        first = found.setdefault(frozenset(by_hash), number)
        if first != number:
            names = [f"{n} ({','.join(overrides[n])})" for n in (first, number)]
            raise ConfigError(
                "interleave",
                True,
                f"jobs {' and '.join(names)} plan the same runs; remove one of them",
            )
