"""The words of a device, a binding and a model are the same wherever they are shown."""

from __future__ import annotations

import pytest

from numa_bench.labels import (
    add_hops,
    compile_label,
    describe_placement,
    device_label,
    distance_text,
    find_base_label,
    gpu_label,
    memory_label,
    mode_label,
    node_label,
    place_distance_text,
    placement_label,
    setting_label,
    split_hops,
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


@pytest.mark.parametrize(
    ("affinity", "cpus", "text"),
    [
        ("node", "0-3", "node 0, memory 1"),
        (None, None, "node 0, memory 1"),
        ("core-complex", "0-1", "node 0 (core-complex), memory 1"),
        ("physcpu-no-smt", "0-1,8", "node 0 (physcpu-no-smt 0-1+8), memory 1"),
    ],
)
def test_an_affinity_is_shown_with_the_cpus(
    affinity: str | None, cpus: str | None, text: str
) -> None:
    assert placement_label(0, [1], "bind", affinity, cpus) == text


def test_the_base_is_local_with_whole_nodes_if_there_is_one() -> None:
    labels = ["remote", "local (socket)", "local", "local (core-complex)", "local/remote"]

    assert find_base_label(labels) == "local"
    assert find_base_label(labels[3:]) == "local (core-complex)"
    assert find_base_label(["remote", "local/remote"]) is None


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("local", ""),
        ("remote", ""),
        ("unknown", ""),
        ("same_socket", "on another node of the socket"),
        ("mixed", "CPUs, or the workers of a set, at several distances"),
        ("local/remote", "memory on the other socket, CPUs local"),
        ("remote/local", "CPUs on the other socket, memory local"),
        ("remote/local (exclusive)", "CPUs on the other socket, memory local"),
        (
            "same_socket/remote",
            "memory on the other socket, CPUs on another node of the socket",
        ),
    ],
)
def test_what_differs_from_local_in_words(label: str, words: str) -> None:
    assert describe_placement(label) == words


def test_a_node_that_was_not_chosen_is_any() -> None:
    assert (node_label(0), node_label(None)) == ("0", "any")


def test_a_model_is_shown_with_its_mode_and_settings() -> None:
    assert (compile_label("default"), compile_label(None)) == ("compiled:default", "eager")
    assert (mode_label("default"), mode_label(None)) == ("default", "eager")
    assert setting_label("batch_size", 16) == "batch_size=16"


@pytest.mark.parametrize(
    ("name", "distance", "text"),
    [
        ("same_node", 10, "same node (distance 10)"),
        ("same_socket", 12, "same socket (distance 12)"),
        ("other_socket", 32.0, "other socket (distance 32)"),
        ("other_socket", None, "other socket"),
        ("other_socket_2_hops", 31, "other socket, 2 hops (distance 31)"),
        ("mixed", 32, "several distances (up to 32)"),
        ("mixed", None, "several distances"),
        (None, None, ""),
    ],
)
def test_a_distance_class_is_shown_with_its_distance(
    name: str | None, distance: float | None, text: str
) -> None:
    assert distance_text(name, distance) == text


def test_cpus_and_memory_at_different_distances_are_both_named() -> None:
    near, far = "same node (distance 10)", "other socket (distance 32)"
    assert place_distance_text(far, far) == far
    assert place_distance_text(near, far) == f"CPUs: {near}, memory: {far}"
    assert (place_distance_text(near, ""), place_distance_text("", far)) == (near, far)
    assert place_distance_text("", "") == ""


def test_hops_are_written_from_two_on() -> None:
    assert [add_hops("remote", n) for n in (0, 1, 2)] == ["remote", "remote", "remote_2_hops"]
    assert split_hops("remote_2_hops") == ("remote", 2)
    assert split_hops("same_socket") == ("same_socket", 1)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("remote_2_hops", "on a socket 2 hops away"),
        ("local/remote_2_hops", "memory on a socket 2 hops away, CPUs local"),
        ("remote_3_hops/local (exclusive)", "CPUs on a socket 3 hops away, memory local"),
        ("remote", ""),
    ],
)
def test_hops_are_in_the_words_of_a_placement(label: str, words: str) -> None:
    assert describe_placement(label) == words
