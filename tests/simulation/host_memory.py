"""What host memory of a simulated machine does for threads of one node, on a virtual clock.

MemoryModel(read_gb_per_s=20.0, slow_pairs=((3, 1, 0.5),)) plants half the rates, and twice the
latency, for CPUs of node 3 on the memory of node 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.planted_kernels import PlantedKernels


@dataclass(frozen=True)
class MemoryModel:
    """Rates in GB/s of all threads of a node on its own memory, and the latency of a load.

    A factor of 0.5 halves the rates and doubles the latency: `same_socket` for memory of another
    node of the socket, `remote` for that of another socket, and each of `slow_pairs`, as (CPU node,
    memory node, factor), in place of these.
    """

    read_gb_per_s: float = 100.0
    write_gb_per_s: float = 60.0
    copy_gb_per_s: float = 80.0
    latency_ns: float = 90.0
    same_socket: float = 1.0
    remote: float = 1.0
    slow_pairs: tuple[tuple[int, int, float], ...] = ()

    def factor(self, cpu_node: int, memory_node: int, *, same_socket: bool) -> float:
        """What remains of the rates of the own node."""
        for cpu, memory, factor in self.slow_pairs:
            if (cpu, memory) == (cpu_node, memory_node):
                return factor
        if cpu_node == memory_node:
            return 1.0
        return self.same_socket if same_socket else self.remote

    def make_kernels(self, factors: Sequence[float]) -> PlantedKernels:
        """Kernels of a process whose pages alternate between nodes with these factors."""
        # Times add up, not rates.
        factor = len(factors) / sum(1 / one for one in factors)
        rates = {
            "read": self.read_gb_per_s * factor,
            "write": self.write_gb_per_s * factor,
            "copy": self.copy_gb_per_s * factor,
        }
        return PlantedKernels(rates, self.latency_ns / factor)
