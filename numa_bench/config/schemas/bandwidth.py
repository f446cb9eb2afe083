"""Structured config of the bandwidth study: sizes, directions, kinds of memory, rounds.

See `schema.py` for the rest and for how it is registered. What words mean on which device is
checked when the study is planned, in plan/bandwidth.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numa_bench.config.checks import check_at_least, check_one_of, check_seconds
from numa_bench.config.schemas.workload import HOST_MEMORIES
from numa_bench.config.settings import documented_field
from numa_bench.errors import ConfigError
from numa_bench.records.measuring import LINE_BYTES

GPU_DIRECTIONS = ("h2d", "d2h", "both", "latency")
CPU_DIRECTIONS = ("read", "write", "copy", "latency")
DIRECTIONS = tuple(dict.fromkeys((*GPU_DIRECTIONS, *CPU_DIRECTIONS)))
HUGE_PAGES = ("both", "only", "never")
AUTO = "auto"


@dataclass(kw_only=True, slots=True)
class BandwidthConfig:
    """What one run of a bandwidth study measures, as a series inside one process."""

    sizes: Any = documented_field(
        AUTO,
        "Bytes per copy or array, multiples of 64, as a list. auto: powers of 4, with a GPU from "
        "4 KiB to 1 GiB, on the CPU from 64 KiB to four times the largest last-level cache, at "
        "least 256 MiB and at most 4 GiB.",
        kind="list of int, or auto",
    )
    directions: Any = documented_field(
        AUTO,
        f"With a GPU of {', '.join(GPU_DIRECTIONS)}; on the CPU of {', '.join(CPU_DIRECTIONS)}. "
        "auto: all.",
        kind="list of words, or auto",
    )
    memory: Any = documented_field(
        AUTO,
        "Host memory of copies with a GPU: registered (mapped, touched, then cudaHostRegister), "
        "pinned (torch's pin_memory(), whose place the driver chooses), pageable. The first one "
        "gives the metrics of the record. auto: all three; the CPU has pageable memory only.",
        kind="list of words, or auto",
    )
    huge_pages: str = documented_field(
        "both",
        f"Transparent huge pages of registered and pageable memory: {', '.join(HUGE_PAGES)}.",
    )
    rounds: int = documented_field(
        10, "Samples of each point. Points take turns, round by round, in random order."
    )
    budget_s: float = documented_field(
        20.0, "Maximum length of all rounds in seconds; one round is always measured."
    )


def check_bandwidth(key: str, bandwidth: BandwidthConfig) -> None:
    """Raise ConfigError for the first setting that no device can use."""
    sizes = read_list(f"{key}.sizes", bandwidth.sizes)
    for size in sizes or ():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % LINE_BYTES:
            raise ConfigError(
                f"{key}.sizes", size, f"sizes are bytes, multiples of {LINE_BYTES}, such as 1048576"
            )
    for name, words in (("directions", DIRECTIONS), ("memory", HOST_MEMORIES)):
        for word in read_list(f"{key}.{name}", getattr(bandwidth, name)) or ():
            check_one_of(f"{key}.{name}", word, words)
    if read_list(f"{key}.memory", bandwidth.memory) == ("pinned",):
        raise ConfigError(
            f"{key}.memory",
            bandwidth.memory,
            "the place of pinned memory cannot be proven; add registered or pageable",
        )
    check_one_of(f"{key}.huge_pages", bandwidth.huge_pages, HUGE_PAGES)
    check_at_least(f"{key}.rounds", bandwidth.rounds, 1)
    if not bandwidth.budget_s > 0:
        raise ConfigError(f"{key}.budget_s", bandwidth.budget_s, "must be greater than 0")
    check_seconds(f"{key}.budget_s", bandwidth.budget_s)


def read_list(key: str, value: Any) -> tuple[Any, ...] | None:
    """The entries of a list, of one value, or None for auto. Raises ConfigError for bad lists."""
    if value == AUTO:
        return None
    entries = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not entries:
        raise ConfigError(key, "[]", "must not be empty; use auto for the default")
    twice = [entry for entry in entries if entries.count(entry) > 1]
    if twice:
        raise ConfigError(key, twice[0], "is listed twice; list it once")
    return entries
