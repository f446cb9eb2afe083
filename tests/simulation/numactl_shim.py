"""numactl of a simulated machine: records the binding in a variable and becomes the command.

Nothing is bound, for the machine is not there; `machine.current_binding` reads the record. Nodes
and CPUs that the machine lacks are refused with the lines and the exit code of numactl 2.0.
Only the standard library, because it runs by its path.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

#: The file that describes the machine, and the record of what was bound.
MACHINE, BINDING = "SIMULATED_MACHINE", "SIMULATED_BINDING"
_MEMORY = {"membind": "bind", "preferred": "preferred", "interleave": "interleave"}


class Refused(Exception):  # noqa: N818 - numactl's own word is "Usage"
    """numactl would not do this; the message is what it prints."""


def parse_list(text: str, known: set[int], what: str) -> list[int]:
    """The numbers of "0-2,4" or "all". Raises Refused for one that the machine lacks."""
    if text == "all":
        return sorted(known)
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        try:
            found.update(range(int(first), int(last or first) + 1))
        except ValueError:
            raise Refused(f"<{text}> is invalid") from None
    missing = sorted(found - known)
    if missing:
        print(f"libnuma: Warning: {what} argument {missing[0]} is out of range", file=sys.stderr)
        raise Refused(f"<{text}> is invalid")
    return sorted(found)


def bind(arguments: list[str], machine: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The record of a binding, and the command to become. Raises Refused."""
    parser = argparse.ArgumentParser(prog="numactl", allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--cpunodebind", "-N")
    parser.add_argument("--physcpubind", "-C")
    parser.add_argument("--membind", "-m")
    parser.add_argument("--preferred", "-p")
    parser.add_argument("--interleave", "-i")
    parser.add_argument("--localalloc", "-l", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not options.command:
        parser.print_usage(sys.stderr)
        raise Refused
    cpus_of = {node["id"]: cpus_in(node["cpus"]) for node in machine["nodes"]}
    everything = {cpu for cpus in cpus_of.values() for cpu in cpus}
    cpus: list[int] = []
    if options.cpunodebind is not None:
        nodes = parse_list(options.cpunodebind, set(cpus_of), "node")
        cpus = [cpu for node in nodes for cpu in cpus_of[node]]
    elif options.physcpubind is not None:
        cpus = parse_list(options.physcpubind, everything, "cpu")
    home = next((node for node, own in cpus_of.items() if cpus and cpus[0] in own), None)
    memory: list[int] = []
    policy = "local" if options.localalloc else None
    for option, name in _MEMORY.items():
        text = getattr(options, option)
        if text is not None:
            memory, policy = parse_list(text, set(cpus_of), "node"), name
    record = {"cpus": cpus, "cpu_node": home, "memory_nodes": memory, "policy": policy}
    return record, options.command


def cpus_in(text: str) -> list[int]:
    """The numbers of a CPU list as sysfs writes it, such as "0-3,8"."""
    found: list[int] = []
    for item in filter(None, text.split(",")):
        first, _, last = item.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main() -> int:
    """numactl's command line; returns only when it refuses."""
    machine = json.loads(Path(os.environ[MACHINE]).read_text())
    try:
        record, command = bind(sys.argv[1:], machine)
        os.environ[BINDING] = json.dumps(record)
        os.execvp(command[0], command)
    except Refused as error:
        print(error)  # on stdout, as numactl does
    except argparse.ArgumentError as error:
        print(f"numactl: {error}", file=sys.stderr)
    except OSError as error:
        print(f"numactl: execution of `{sys.argv[-1]}': {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
