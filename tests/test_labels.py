"""The words of a device, a binding and a model are the same wherever they are shown."""

from __future__ import annotations

import pytest

from numa_bench.labels import (
    compile_label,
    device_label,
    gpu_label,
    memory_label,
    mode_label,
    node_label,
    placement_label,
    setting_label,
)


@pytest.mark.parametrize(
    ("kind", "gpu_id", "node", "label"),
    [
        ("cuda", 0, 1, "GPU 0 (node 1)"),
        ("cuda", 3, 0, "GPU 3 (node 0)"),
        ("cuda", 3, -1, "GPU 3 (node ?)"),
        ("cuda", 3, None, "GPU 3 (node ?)"),
        ("cpu", None, None, "CPU"),
    ],
)
def test_a_device_is_shown_with_its_node(
    kind: str, gpu_id: int | None, node: int | None, label: str
) -> None:
    assert device_label(kind, gpu_id, node) == label


def test_a_device_without_its_node() -> None:
    assert (gpu_label(0), gpu_label(None)) == ("GPU 0", "CPU")


@pytest.mark.parametrize(
    ("node", "memory", "policy", "memory_text", "placement_text"),
    [
        (0, [0], "bind", "0", "node 0, memory 0"),
        (0, [0, 1], "interleave", "0,1 (interleave)", "node 0, memory 0,1 (interleave)"),
        (0, [1], "preferred", "1 (preferred)", "node 0, memory 1 (preferred)"),
        (0, [], "none", "any", "node 0, memory any"),
        (0, [], "local", "any (local)", "node 0, memory any (local)"),
        (None, [1], "bind", "1", "node any, memory 1"),
        (None, [], "none", "any", "any"),
        (None, [], None, "any", "any"),
    ],
)
def test_a_binding_is_shown_by_nodes_and_policy(
    node: int | None, memory: list[int], policy: str | None, memory_text: str, placement_text: str
) -> None:
    assert memory_label(memory, policy) == memory_text
    assert placement_label(node, memory, policy) == placement_text


def test_a_node_that_was_not_chosen_is_any() -> None:
    assert (node_label(0), node_label(None)) == ("0", "any")


def test_a_model_is_shown_with_its_mode_and_settings() -> None:
    assert (compile_label("default"), compile_label(None)) == ("compiled:default", "eager")
    assert (mode_label("default"), mode_label(None)) == ("default", "eager")
    assert setting_label("batch_size", 16) == "batch_size=16"
