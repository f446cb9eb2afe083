"""The simulated machine for real worker processes that are started by the dozen."""

from __future__ import annotations

import gc
from unittest import mock

from numa_bench.machine.backend import Backend
from tests.simulation import machine


def backend() -> Backend:
    """`machine.backend`, without the full collection that precedes every window: several a run,
    each a tenth of a second in a process that has torch loaded, and no pause of a virtual clock."""
    mock.patch.object(gc, "collect", return_value=0).start()
    return machine.backend()
