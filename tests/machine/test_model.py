"""A stored topology is read back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from numa_bench.machine.model import Topology
from tests.machines import laptop, server, unknown_gpu, with_memory_only_node


@pytest.mark.parametrize("topology", [laptop(), server(), unknown_gpu(), with_memory_only_node(2)])
def test_a_topology_survives_its_file(topology: Topology) -> None:
    stored = json.loads(json.dumps(topology.to_dict()))

    assert Topology.from_dict(stored) == topology


def test_keys_that_older_versions_did_not_write_have_their_defaults() -> None:
    stored = server().to_dict()
    for node in stored["nodes"]:
        for key in ("socket", "cores", "l3_domains", "llc_bytes", "memory_free_bytes"):
            del node[key]

    topology = Topology.from_dict({"nodes": stored["nodes"], "gpus": stored["gpus"]})

    assert [node.cores for node in topology.nodes] == [(), ()]
    assert topology.source == "live"


@pytest.mark.parametrize(
    "broken", [{}, {"nodes": 3, "gpus": []}, {"nodes": [{"id": 0}], "gpus": []}, {"nodes": [[]]}]
)
def test_what_is_no_topology_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is no topology"):
        Topology.from_dict(broken)
