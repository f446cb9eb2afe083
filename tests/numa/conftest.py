"""What asks for `machine` needs several NUMA nodes and numactl, and is skipped where they lack."""

from __future__ import annotations

import pytest

from tests.numa.machine import Machine, this_machine


@pytest.fixture(scope="session")
def machine() -> Machine:
    return this_machine()
