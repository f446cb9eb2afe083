"""Who gets how much of what the workers of a set share: the link between sockets, nodes' memory.

In the steady state each flow gets its max-min fair share: all rates grow together until a resource
is full or a flow needs no more (progressive filling; Bertsekas and Gallager, "Data Networks", 1992,
section 6.5.2). A process works this out from the spec of its set and never asks the others.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from numa_bench.jsonio import read_json
from numa_bench.records import RunSpec
from numa_bench.worker.memory_kernels.kernels import Gate, Span
from tests.simulation.links import Links
from tests.simulation.planted_kernels import PlantedKernels

if TYPE_CHECKING:
    from tests.simulation.machine import SimulatedMachine

#: See runner/sets/attempt_set.py.
SET_VARIABLE = "NUMA_BENCH_SET"
SOCKET_LINK = "link between the sockets"


@dataclass(frozen=True)
class Flow:
    """What one worker moves: at most `most` bytes per second, through shared resources."""

    most: float
    uses: frozenset[str]


def share_fairly(flows: Sequence[Flow], capacities: Mapping[str, float]) -> list[float]:
    """The max-min fair rate of each flow, in the unit of the capacities."""
    rates = [0.0] * len(flows)
    left = dict(capacities)
    growing = set(range(len(flows)))
    while growing:
        users = {name: sum(name in flows[i].uses for i in growing) for name in left}
        steps = [left[name] / count for name, count in users.items() if count]
        step = min([*steps, *(flows[i].most - rates[i] for i in growing)])
        for i in growing:
            rates[i] += step
        left = {name: room - step * users[name] for name, room in left.items()}
        # A rounding error must not keep a full resource open.
        full = {name for name, room in left.items() if room <= 1e-9 * capacities[name]}
        growing = {
            i
            for i in growing
            if rates[i] < flows[i].most * (1 - 1e-12) and not flows[i].uses & full
        }
    return rates


def own_share(machine: SimulatedMachine) -> float | None:
    """Bytes per second of this process in its set; None: it is in none."""
    path = os.environ.get(SET_VARIABLE)
    if path is None:
        return None
    members = RunSpec.from_dict(read_json(Path(path))).members
    flows = [_flow(machine, member.spec) for member in members]
    rates = share_fairly(flows, _capacities(machine))
    # A worker's folder is named after it.
    name = Path(sys.argv[sys.argv.index("--spec") + 1]).parent.name
    return next(r for r, m in zip(rates, members, strict=True) if m.name == name)


def in_set(links: Links, share: float | None) -> Links:
    """The links of a GPU whose copies get `share` bytes per second in both directions together."""
    if share is None:
        return links
    return replace(
        links,
        h2d_bytes_per_s=min(links.h2d_bytes_per_s, share),
        d2h_bytes_per_s=min(links.d2h_bytes_per_s, share),
        both_bytes_per_s=min(links.both_bytes_per_s, share),
    )


def _capacities(machine: SimulatedMachine) -> dict[str, float]:
    link = machine.link
    memory = {_memory(node.id): link.memory_gb_per_s * 1e9 for node in machine.nodes}
    return {SOCKET_LINK: link.socket_gb_per_s * 1e9, **memory}


def _memory(node: int) -> str:
    return f"memory of node {node}"


def _flow(machine: SimulatedMachine, spec: RunSpec) -> Flow:
    place = spec.placement
    assert place.numa_node is not None
    uses = {_memory(node) for node in place.memory_nodes}
    if spec.stream is not None:
        home, most = place.numa_node, spec.stream.threads * machine.link.stream_gb_per_s * 1e9
    else:
        gpu = machine.gpus[spec.device.gpu_id or 0]
        links = machine.links(gpu, place.numa_node, place.memory_nodes)
        one_way = links.h2d_bytes_per_s + links.d2h_bytes_per_s
        home, most = gpu.node, min(one_way, links.both_bytes_per_s)
    if any(machine.socket(node) != machine.socket(home) for node in place.memory_nodes):
        uses.add(SOCKET_LINK)
    return Flow(most, frozenset(uses)) if math.isfinite(most) else Flow(1e15, frozenset(uses))


class SharedKernels(PlantedKernels):
    """Memory streams of a worker of a set, on a virtual clock; no byte is moved.

    It is the worker's `Clock` too.
    """

    name = "simulated"

    def __init__(self, bytes_per_s: float) -> None:
        rate = bytes_per_s / 1e9
        super().__init__({"read": rate, "write": rate, "copy": rate}, latency_ns=100.0)

    def host_time(self) -> float:
        """See `Clock.host_time`."""
        return self._now

    def wait_until(self, moment: float) -> None:
        """See `Clock.wait_until`."""
        self._now = max(self._now, moment)

    def read(self, *where: int, passes: int = 1, gate: Gate | None = None) -> Span:
        return Span(*self._move("read", where[1], passes, gate))

    def write(self, *where: int, passes: int = 1, gate: Gate | None = None) -> Span:
        return Span(*self._move("write", where[1], passes, gate))

    def copy(self, *where: int, passes: int = 1, gate: Gate | None = None) -> Span:
        return Span(*self._move("copy", where[2], passes, gate))


_kernels: list[SharedKernels] = []


def make_kernels(machine: SimulatedMachine) -> SharedKernels:
    """New kernels for this worker, whose clock `current_clock` returns. Raises ValueError outside
    of a set."""
    share = own_share(machine)
    if share is None:
        raise ValueError("memory streams are simulated for the workers of a set only")
    _kernels[:] = [SharedKernels(share)]
    return _kernels[0]


def current_clock() -> SharedKernels:
    """The clock of the kernels that were made last."""
    return _kernels[0]
