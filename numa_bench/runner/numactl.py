"""A placement as a numactl command line (numactl 2.0, man numactl), and a check that it works.

Building the command line is pure; `check_binding` runs it on a command that does nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from numa_bench.errors import MachineError
from numa_bench.machine.sysfs import format_cpu_list
from numa_bench.records import Placement

INSTALL = "install it (Debian/Ubuntu: apt-get install numactl; Fedora/RHEL: dnf install numactl)"
UNBOUND = "or measure without binding: experiment.hardware.numa_nodes=unbound"


def numactl_argv(placement: Placement, numactl: str = "numactl") -> list[str]:
    """The prefix of a command that binds it as planned; empty when nothing is bound."""
    if not placement.bound:
        return []
    argv = [numactl]
    if placement.by_cpu:
        # --cpunodebind is refused for a node that has CPUs and no memory.
        argv.append(f"--physcpubind={format_cpu_list(placement.cpus)}")
    elif placement.numa_node is not None:
        argv.append(f"--cpunodebind={placement.numa_node}")
    nodes = ",".join(map(str, placement.memory_nodes))
    if placement.policy == "local":
        argv.append("--localalloc")
    elif nodes and placement.policy != "none":
        option = {"bind": "membind", "preferred": "preferred", "interleave": "interleave"}
        argv.append(f"--{option[placement.policy]}={nodes}")
    return argv


def check_binding(placements: Iterable[Placement]) -> None:
    """Try every distinct binding on a command that does nothing.

    Raises MachineError when numactl is missing, not permitted to bind, or fails.
    """
    bindings = dict.fromkeys(tuple(numactl_argv(placement)) for placement in placements)
    bindings.pop((), None)
    if bindings and shutil.which("numactl") is None:
        raise MachineError(f"numactl is not installed; {INSTALL}, {UNBOUND}")
    for argv in bindings:
        tried = subprocess.run(
            [*argv, "true"], capture_output=True, text=True, errors="replace", check=False
        )
        if tried.returncode != 0:
            # numactl prints some of its errors on stdout (`<9> is invalid`), with usage on stderr.
            raise MachineError(explain_refusal(argv, tried.stderr + tried.stdout))


def explain_refusal(argv: tuple[str, ...], output: str) -> str:
    """One line for what numactl printed when it refused."""
    shown = " ".join(argv)
    if "not permitted" in output:
        return f"`{shown}` is not permitted here; in a container add --cap-add SYS_NICE, {UNBOUND}"
    first = next((line for line in output.splitlines() if line.strip()), "it gave no reason")
    return f"`{shown}` failed: {first.strip()}; `numactl --hardware` lists the nodes, {UNBOUND}"
