"""How a device, a memory binding, a model and a duration are written for users. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from numa_bench.metric_registry import NAMED
from numa_bench.records import WHOLE_NODE

#: A node, or nodes, that were not chosen.
ANY = "any"
#: What a headline metric is called in titles and verdicts; `metric_registry` has the units.
_QUANTITIES = {
    "throughput_samples_per_s": "throughput",
    "h2d_gb_per_s": "H2D bandwidth",
    "read_gb_per_s": "read bandwidth",
    "stream_gb_per_s": "stream bandwidth",
    "wall_s": "wall time",
}
LOCAL = "local"
#: A distance class, or a side of a label, of several nodes at different distances.
MIXED = "mixed"
EAGER = "eager"
#: Where the side of a placement's label is, seen from the device.
_PLACES = {
    LOCAL: "its node",
    "same_socket": "another node of the socket",
    "remote": "the other socket",
    MIXED: "several nodes",
}
#: Distance classes (`machine.model.DISTANCE_CLASSES`) in words.
_CLASSES = {
    "same_node": "same node",
    "same_socket": "same socket",
    "other_socket": "other socket",
}
#: Policies that need no mention: all pages are on the nodes named, or no node is named.
_PLAIN_POLICIES = ("bind", "none", None)


def gpu_label(gpu_id: int | None) -> str:
    """A device by its number: "GPU 0", or "CPU" without one."""
    return "CPU" if gpu_id is None else f"GPU {gpu_id}"


def device_label(
    kind: str, gpu_id: int | None, gpu_numa_node: int | None, gpu_ids: Sequence[int] = ()
) -> str:
    """A device with its NUMA node: "GPU 0 (node 1)", or "CPU"; several of one run: "GPUs 0+4".

    Linux reports node -1 where the firmware does not say which node a GPU belongs to.
    """
    if kind != "cuda":
        return "CPU"
    if len(gpu_ids) > 1:
        return f"GPUs {'+'.join(map(str, gpu_ids))}"
    known = gpu_numa_node is not None and gpu_numa_node >= 0
    return f"GPU {gpu_id} (node {gpu_numa_node if known else '?'})"


def node_label(node: int | None) -> str:
    """The node that CPUs were bound to: "0", or "any" if they were not bound."""
    return ANY if node is None else str(node)


def memory_label(nodes: Sequence[int], policy: str | None) -> str:
    """The nodes that memory was bound to, with the policy unless it is bind: "0,1 (interleave)"."""
    text = ",".join(map(str, nodes)) or ANY
    return text if policy in _PLAIN_POLICIES else f"{text} ({policy})"


def placement_label(
    node: int | None,
    memory_nodes: Sequence[int],
    policy: str | None,
    affinity: str | None = None,
    cpus: str | None = None,
) -> str:
    """CPU and memory binding: "node 0, memory 1", or "any" if neither is bound.

    With an affinity "node 0 (core-complex), memory 1", as `add_affinity` writes it.
    """
    memory = memory_label(memory_nodes, policy)
    if node is None and memory == ANY:
        return ANY
    return f"{add_affinity(f'node {node_label(node)}', affinity, cpus)}, memory {memory}"


def add_affinity(label: str, affinity: str | None, cpus: str | None = None) -> str:
    """A placement's label with its CPU affinity, unless that is the whole node.

    "local", "local (core-complex)"; where CPUs were given by number, with their list:
    "local (physcpu 0-3+8)".
    """
    if affinity is None or affinity == WHOLE_NODE:
        return label
    # A comma separates CPUs from memory in a placement's text.
    which = f" {cpus.replace(',', '+')}" if cpus and affinity.startswith("physcpu") else ""
    return f"{label} ({affinity}{which})"


def is_local(label: str) -> bool:
    """Whether a label of `add_affinity` is local, with any affinity."""
    return label == LOCAL or label.startswith(f"{LOCAL} (")


def find_base_label(labels: Iterable[str]) -> str | None:
    """The local label that others are compared to: that of whole nodes if there is one.

    None without a local one.
    """
    # The plain label is a prefix of the others, so it comes first.
    return min(filter(is_local, labels), default=None)


def add_hops(name: str, hops: int) -> str:
    """A distance class or label with the hops between the sockets, from two on.

    "remote_2_hops"; one hop, the only number with two sockets, is not written.
    """
    return name if hops < 2 else f"{name}_{hops}_hops"


def split_hops(name: str) -> tuple[str, int]:
    """The inverse of `add_hops`: ("remote", 2). Hops that are not written count as 1."""
    found = re.fullmatch(r"(.+)_(\d+)_hops", name)
    return (found[1], int(found[2])) if found else (name, 1)


def distance_text(name: str | None, distance: float | None) -> str:
    """A distance class with its SLIT distance: "other socket (distance 32)"; "" if unknown.

    `distance` is the greatest one of several nodes.
    """
    if name is None:
        return ""
    if name == MIXED:
        return "several distances" + (f" (up to {distance:.0f})" if distance is not None else "")
    plain, hops = split_hops(name)
    text = _CLASSES.get(plain, plain) + (f", {hops} hops" if hops > 1 else "")
    return text if distance is None else f"{text} (distance {distance:.0f})"


def place_distance_text(cpus: str, memory: str) -> str:
    """How far a placement is from the device; both sides as `distance_text` writes them.

    "CPUs: same node (distance 10), memory: other socket (distance 32)"; one text where both are
    equally far, or only one of them is bound.
    """
    if cpus and memory and cpus != memory:
        return f"CPUs: {cpus}, memory: {memory}"
    return cpus or memory


def _describe_place(side: str) -> str | None:
    """Where one side of a label is; None for what is no side."""
    plain, hops = split_hops(side)
    if plain == "remote" and hops > 1:
        return f"a socket {hops} hops away"
    return _PLACES.get(side)


def describe_placement(label: str) -> str:
    """What differs from local, in words, where the label needs them; else "".

    local/remote: "memory on the other socket, CPUs local".
    """
    plain, _, _ = label.partition(" (")
    cpus, apart, memory = plain.partition("/")
    if plain == "same_socket" or (not apart and split_hops(plain)[1] > 1):
        return f"on {_describe_place(plain)}"
    if plain == MIXED:
        return "CPUs, or the workers of a set, at several distances"
    if not apart or None in (_describe_place(cpus), _describe_place(memory)):
        return ""
    near, far = (("CPUs", cpus), ("memory", memory))
    if cpus != LOCAL and memory == LOCAL:
        near, far = far, near
    where = LOCAL if near[1] == LOCAL else f"on {_describe_place(near[1])}"
    return f"{far[0]} on {_describe_place(far[1])}, {near[0]} {where}"


def setting_label(name: str, value: object) -> str:
    """A test setting beside a model's name: "batch_size=16"."""
    return f"{name}={value}"


def mode_label(compile_mode: str | None) -> str:
    """How a model was run: its compile mode, or "eager" if it was not compiled."""
    return compile_mode or EAGER


def compile_label(compile_mode: str | None) -> str:
    """The same beside a model's name: "compiled:default" or "eager"."""
    return f"compiled:{compile_mode}" if compile_mode else EAGER


def quantity_label(metric: str) -> str:
    """The name of a metric in a title: "throughput", "H2D bandwidth"; others by their own name."""
    return _QUANTITIES.get(metric, metric.removeprefix(NAMED))


def duration_text(seconds: float) -> str:
    """Seconds in the largest fitting unit: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_rate(value: float) -> str:
    """A measured value for a table: "1,234.5"; below 100 with four digits, as of a short time."""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def list_first(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first texts of a list, and of a longer one how many more there are: "a, b and 3 more"."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more
