"""Settings of what may run on the host beside a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from numa_bench.config.checks import check_one_of, check_seconds
from numa_bench.config.settings import documented_field
from numa_bench.errors import ConfigError

#: What a measurement has for itself, from strong to weak.
HOST, NODE, GPU = "host", "node", "gpu"
EXCLUSIVE = (HOST, NODE, GPU)


@dataclass(kw_only=True, slots=True)
class IsolationConfig:
    """What may run on the host beside a measurement (see docs/isolation.md)."""

    exclusive: str = documented_field(
        HOST,
        "What a measurement has for itself, across processes, users and launchers: host (one "
        "measurement at a time, nothing heavy of numa_bench beside it), node (its NUMA nodes and "
        "its GPU) or gpu (its GPU; without one its NUMA nodes). Records of node and gpu have "
        "shared_host=true and are never pooled with those of host.",
    )
    directory: Optional[str] = documented_field(
        None,
        "Directory of the lock files, the same for everyone who measures on the host, and not on "
        "a network file system. null: NUMA_BENCH_LOCKS, else /tmp/numa_bench-locks.",
    )
    wait_limit_s: Optional[float] = documented_field(
        None,
        "Seconds that a run may wait for its locks; then it is recorded as failed, with who holds "
        "them. null: as long as it takes.",
    )


def check_isolation(isolation: IsolationConfig) -> None:
    """Raise ConfigError for the first setting of `isolation` that cannot be used."""
    check_one_of("isolation.exclusive", isolation.exclusive, EXCLUSIVE)
    if isolation.directory is not None and not isolation.directory.strip():
        raise ConfigError("isolation.directory", "''", "must not be empty; use null or a directory")
    if isolation.wait_limit_s is not None:
        check_seconds("isolation.wait_limit_s", isolation.wait_limit_s)
