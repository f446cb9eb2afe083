#!/usr/bin/env python
"""Run this suite in virtual machines of several topologies, and say what no machine could run.

    python tests/numa/run_vm.py --vm DIR --venv DIR [--only NAME ...] [--jobs N]

DIR of --vm holds run.sh, which boots a machine with NUMA nodes and runs a command in it (see
docs/numa-tests.md for what it must understand); NUMA_VM is its default. The venv is one that this
project's tests run in. Exit code 1: a test failed, a machine did not come up, or some case was
skipped in every topology.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
#: Under emulation, on CPUs that other work may use too.
TIMEOUT_S = 900


@dataclass(frozen=True)
class Machine:
    """One machine to boot, and what to run there beside the quick tests.

    `slow` names tests that import torch or Hydra in new processes: half a minute each in
    emulation, so each of them has one machine. `misplaced`: run test_misplaced.py as well.
    """

    name: str
    what: str
    options: str
    slow: tuple[str, ...] = ()
    misplaced: bool = False

    @property
    def selection(self) -> list[str]:
        chosen = ["-k", " or ".join(("not slow", *self.slow))]
        return chosen if self.misplaced else [*chosen, "--ignore=tests/numa/test_misplaced.py"]


MACHINES = (
    Machine(
        "pairs",
        "4 nodes in two pairs, CPU numbers alternating, a display device on node 2",
        "--distances snc --cpus-per-node 2 --cpu-order interleaved --pci 2",
        (
            "test_study_local_and_remote",
            "test_a_node_that_is_not_there",
            "test_each_worker_of_a_set",
            "test_a_memory_benchmark",
        ),
        misplaced=True,
    ),
    Machine(
        "lean",
        "node 1 has CPUs and no memory, node 3 has 256 MB",
        "--mem 768,0,768,256",
        ("test_worker_on_a_node_without_memory",),
    ),
    Machine(
        "memory-only",
        "node 2 has memory and no CPUs",
        "--cpuless 2",
        ("test_interleaved_worker",),
    ),
    Machine(
        "hole",
        "nodes 0, 2 and 3, display devices on nodes 1 and 3",
        "--absent 1 --pci 1 --pci 3",
        ("test_misplaced_worker_is_invalid",),
    ),
    Machine("one", "one node: what needs more is skipped", "--nodes 1", ("slow",), misplaced=True),
)


@dataclass
class Outcome:
    """What happened on one machine."""

    machine: Machine
    exit_code: int
    output: str
    seconds: float
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.exit_code == 0 and not self.failed and bool(self.passed or self.skipped)


def run(machine: Machine, vm: Path, venv: Path) -> Outcome:
    """Boot the machine, run the tests, read their report."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="numa-tests-") as shared:
        command = [
            str(vm / "run.sh"),
            *machine.options.split(),
            *("--timeout", str(TIMEOUT_S), "--venv", str(venv)),
            *("--share-ro", str(PROJECT), "--share", f"{shared}:/results", "--cwd", str(PROJECT)),
            *("--env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", "--"),
            # What the rest of the project's tests need (Hydra) stays unloaded: it takes time.
            *("python", "-m", "pytest", "tests/numa", "--confcutdir=tests/numa", "--color=no"),
            *(
                "-p",
                "no:cacheprovider",
                # Options of plugins, which are not loaded.
                "-o",
                "addopts=",
                "--durations=8",
                "--junitxml=/results/report.xml",
                *machine.selection,
            ),
        ]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - begin
        outcome = Outcome(machine, done.returncode, done.stdout, seconds)
        report = Path(shared) / "report.xml"
        if report.is_file():
            _read(report, outcome)
    return outcome


def _read(report: Path, outcome: Outcome) -> None:
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.numa.')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.add(name)
        elif skipped is not None:
            outcome.skipped[name] = skipped.get("message", "")
        else:
            outcome.passed.add(name)


def never_run(outcomes: Sequence[Outcome]) -> list[str]:
    """Cases that were collected somewhere and ran nowhere."""
    ran = {name for outcome in outcomes for name in outcome.passed | outcome.failed}
    return sorted({name for outcome in outcomes for name in outcome.skipped} - ran)


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines to print at the end."""
    lines = []
    for outcome in outcomes:
        counts = f"{len(outcome.passed):3} passed {len(outcome.failed):3} failed"
        counts += f" {len(outcome.skipped):3} skipped  {outcome.seconds:4.0f} s"
        verdict = "ok  " if outcome.good else "FAIL"
        machine = outcome.machine
        lines.append(f"{verdict} {machine.name:<12}{counts}  {machine.what}")
        if not outcome.failed and not outcome.good:
            lines.append(f"     the machine or pytest ended with exit code {outcome.exit_code}")
        lines += [f"     failed: {name}" for name in sorted(outcome.failed)]
    cases = {n for o in outcomes for n in (o.passed | o.failed | set(o.skipped))}
    ran = {n for o in outcomes for n in o.passed | o.failed}
    lines.append(f"{len(cases)} cases, {len(ran)} of them run on some machine")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the machines asked for; 0 when all is well."""
    parser = argparse.ArgumentParser(description="Run tests/numa in virtual NUMA machines.")
    default = os.environ.get("NUMA_VM")
    parser.add_argument(
        "--vm", type=Path, default=default, required=default is None, help="folder with run.sh"
    )
    parser.add_argument("--venv", type=Path, default=Path(sys.prefix), help="venv of the tests")
    parser.add_argument("--only", nargs="+", choices=[m.name for m in MACHINES], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="machines at once (2)")
    parser.add_argument("--verbose", action="store_true", help="show what every machine printed")
    options = parser.parse_args(argv)
    machines = [m for m in MACHINES if not options.only or m.name in options.only]
    begin = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda m: run(m, options.vm, options.venv), machines))
    for outcome in outcomes:
        if options.verbose or not outcome.good:
            print(f"--- {outcome.machine.name}\n{outcome.output}")
    print("\n".join(summary(outcomes)))
    missed = [] if options.only else never_run(outcomes)
    for name in missed:
        reasons = {o.skipped[name] for o in outcomes if name in o.skipped}
        print(f"FAIL ran nowhere: {name} ({'; '.join(sorted(reasons))})")
    print(f"{time.monotonic() - begin:.0f} s")
    return 0 if all(outcome.good for outcome in outcomes) and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
