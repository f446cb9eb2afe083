"""The node of a display device, as the topology command reports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.numa.machine import Machine, run_cli


@pytest.fixture(scope="module")
def gpus(machine: Machine) -> list[dict[str, Any]]:  # noqa: ARG001 - skips where it does
    done = run_cli("-m", "numa_bench.topology", "--json", "--root", "/")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["gpus"]
    if not found:
        pytest.skip("needs a PCI display device; this machine has none")
    return found


def test_a_device_is_on_the_node_that_its_bridge_is_on(
    machine: Machine, gpus: list[dict[str, Any]]
) -> None:
    known = [gpu for gpu in gpus if gpu["numa_node"] >= 0]
    if not known:
        pytest.skip("needs a PCI display device whose node the kernel knows")
    for gpu in known:
        node = machine.topology.node(gpu["numa_node"])
        assert node is not None
        device = Path("/sys/bus/pci/devices") / gpu["pci_address"]
        assert (device / "class").read_text().startswith("0x03")
        local = (device / "local_cpulist").read_text().strip()
        assert local == Path(f"/sys/devices/system/node/node{node.id}/cpulist").read_text().strip()


def test_a_device_on_an_absent_node_is_on_none(
    machine: Machine, gpus: list[dict[str, Any]]
) -> None:
    _ = machine.missing_number
    nowhere = [gpu for gpu in gpus if gpu["numa_node"] == -1]
    if not nowhere:
        pytest.skip("needs a PCI display device on a node that is not online")
    assert all(gpu["pci_address"] for gpu in nowhere)
