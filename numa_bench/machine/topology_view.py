"""Print the discovered topology as tables or JSON: the program behind `numa-bench topology`."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from numa_bench.errors import NumaBenchError
from numa_bench.invocation import command_text
from numa_bench.machine.model import Gpu, NumaNode, Topology
from numa_bench.machine.sysfs import format_cpu_list
from numa_bench.machine.topology import discover_topology, read_topology
from numa_bench.terminal.console import CleanConsole
from numa_bench.terminal.lines import print_error


def _kind(node: NumaNode) -> str:
    if node.cpuless:
        return "empty" if node.memoryless else "memory-only"
    return "no memory" if node.memoryless else "CPUs+memory"


def _scaled(size: int | None, unit: float) -> str:
    return "?" if size is None else f"{size / unit:.1f}"


def _folded(cpus: Sequence[int]) -> str:
    """A CPU list wrapped after commas: on some machines nodes alternate CPU by CPU."""
    lines = textwrap.wrap(format_cpu_list(cpus).replace(",", ", "), 20)
    return "\n".join(line.replace(", ", ",") for line in lines) or "-"


def _node_row(node: NumaNode) -> tuple[str, ...]:
    return (
        str(node.id),
        "-" if node.socket is None else str(node.socket),
        _folded(node.cpus),
        str(len(node.cpus)),
        str(len(node.cores)) if node.cores else "-" if node.cpuless else "?",
        _scaled(node.memory_bytes, 1e9),
        _scaled(node.memory_free_bytes, 1e9),
        "-" if node.cpuless else _scaled(node.llc_bytes, 1e6),
        _kind(node),
    )


def _distance_row(node: NumaNode, nodes: Sequence[NumaNode]) -> tuple[str, ...]:
    return (str(node.id), *(str(node.distances.get(other.id, "?")) for other in nodes))


def _gpu_row(gpu: Gpu) -> tuple[str, ...]:
    node = "unknown" if gpu.numa_node < 0 else str(gpu.numa_node)
    return (str(gpu.index), gpu.name or "-", gpu.pci_address, gpu.vendor, gpu.device, node)


def _print_tables(topology: Topology) -> None:
    # PCI addresses and notes are text, never markup or emoji.
    console = CleanConsole(markup=False, emoji=False, highlight=False)

    def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in columns:  # a leading ">" aligns a column of numbers to the right
            table.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
        for row in rows:
            table.add_row(*row)
        # In a pipe rich assumes 80 columns and truncates cells; long lines beat lost digits.
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
        console.print(title, soft_wrap=True)
        console.print(table)
        console.print()

    nodes, gpus = topology.nodes, topology.gpus
    columns = [
        ">Node",
        ">Socket",
        "CPUs",
        ">Count",
        ">Cores",
        ">Memory GB",
        ">Free GB",
        ">LLC MB",
        "Kind",
    ]
    show(f"NUMA nodes ({topology.source})", columns, map(_node_row, nodes))
    columns = [">Node", *(f">{node.id}" for node in nodes)]
    rows = [_distance_row(node, nodes) for node in nodes]
    show("Distances, from the node of the row (10: local)", columns, rows)
    if gpus:
        columns = [">GPU", "Name", "PCI address", "Vendor", "Device", "Node"]
        show("GPUs", columns, map(_gpu_row, gpus))
    else:
        console.print("GPUs: none")
    if topology.cpus_offline:
        console.print(f"CPUs offline: {format_cpu_list(topology.cpus_offline)}", soft_wrap=True)
    for note in topology.notes:
        console.print(f"note: {note}", soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the topology; return the exit code: 0, or 2 if the tree cannot be read."""
    parser = argparse.ArgumentParser(
        prog=command_text("topology"),
        description="Show NUMA nodes, their CPUs, memory and distances, and each GPU's node.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (bytes, not GB)")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="read a captured tree that contains sys/ and proc/"
    )
    options = parser.parse_args(argv)
    try:
        topology = read_topology(options.root) if options.root is not None else discover_topology()
    except NumaBenchError as error:
        print_error(error)
        return error.exit_code
    if options.json:
        print(json.dumps(topology.to_dict(), indent=2))
    else:
        _print_tables(topology)
    return 0
