"""Placements as numactl's command line, and that numactl itself takes them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from numa_bench.config.schema import POLICIES, HardwareConfig
from numa_bench.plan.placements import resolve_placements
from numa_bench.records import Placement
from numa_bench.runner.numactl import numactl_argv
from tests.machines import server, with_memoryless_node


@pytest.mark.parametrize(
    ("placement", "wanted"),
    [
        (Placement(None, (), "none", "unbound"), []),
        (Placement(1, (1,), "bind", "local"), ["--cpunodebind=1", "--membind=1"]),
        (Placement(0, (2,), "bind", "remote"), ["--cpunodebind=0", "--membind=2"]),
        (Placement(0, (2,), "preferred", "remote"), ["--cpunodebind=0", "--preferred=2"]),
        (
            Placement(0, (0, 2), "interleave", "interleave"),
            ["--cpunodebind=0", "--interleave=0,2"],
        ),
        (Placement(0, (0,), "local", "local"), ["--cpunodebind=0", "--localalloc"]),
        (Placement(0, (), "none", "local"), ["--cpunodebind=0"]),
        (Placement(None, (2,), "bind", "remote"), ["--membind=2"]),
        (Placement(None, (2,), "preferred", "remote"), ["--preferred=2"]),
        (Placement(None, (0, 2), "interleave", "interleave"), ["--interleave=0,2"]),
        (
            Placement(2, (1,), "bind", "local", cpus=(8, 9, 10, 11, 24), by_cpu=True),
            ["--physcpubind=8-11,24", "--membind=1"],
        ),
        (
            Placement(2, (1,), "local", "local", cpus=(8,), by_cpu=True),
            ["--physcpubind=8", "--localalloc"],
        ),
    ],
)
def test_a_placement_as_numactl_words(placement: Placement, wanted: list[str]) -> None:
    assert numactl_argv(placement) == (["numactl", *wanted] if wanted else [])


def test_numactl_may_lie_elsewhere() -> None:
    placement = Placement(0, (0,), "bind", "local")

    assert numactl_argv(placement, "/opt/numactl")[0] == "/opt/numactl"


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_of_the_configuration_has_words(policy: str) -> None:
    hardware = HardwareConfig(memory_policy=policy, numa_nodes=2)
    (placement,) = resolve_placements(hardware, server(), server().gpus[0])

    argv = numactl_argv(placement)

    options = {"bind": "--membind=2", "preferred": "--preferred=2", "local": "--localalloc"}
    options |= {"interleave": "--interleave=0,2"}
    memory = [options[policy]] if policy in options else []
    assert argv == ["numactl", "--cpunodebind=2", *memory]


def test_cpus_of_a_node_without_memory_are_bound_by_number() -> None:
    (placement,) = resolve_placements(
        HardwareConfig(numa_nodes=2, memory_nodes=0), with_memoryless_node(), None
    )

    assert numactl_argv(placement) == ["numactl", "--physcpubind=8-11", "--membind=0"]


@pytest.mark.skipif(shutil.which("numactl") is None, reason="numactl is not installed")
@pytest.mark.parametrize(
    "placement",
    [
        Placement(0, (0,), "bind", "local"),
        Placement(0, (0,), "preferred", "local"),
        Placement(0, (0,), "interleave", "local"),
        Placement(0, (0,), "local", "local"),
        Placement(0, (), "none", "local"),
        Placement(None, (0,), "bind", "local"),
        Placement(0, (0,), "bind", "local", cpus=(0,), by_cpu=True),
    ],
    ids=lambda placement: " ".join(numactl_argv(placement)[1:]),
)
def test_numactl_takes_the_words(placement: Placement) -> None:
    """Understood, whether or not this machine permits it: wrong usage prints the usage."""
    tried = subprocess.run(
        [*numactl_argv(placement), "true"], capture_output=True, text=True, check=False
    )

    assert "usage" not in (tried.stdout + tried.stderr).lower()
    assert tried.returncode == 0 or "not permitted" in tried.stderr + tried.stdout
