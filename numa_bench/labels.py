"""How a device, a memory binding, a model and a duration are written for users. Pure."""

from __future__ import annotations

from collections.abc import Sequence

#: A node, or nodes, that were not chosen.
ANY = "any"
EAGER = "eager"
#: Policies that need no mention: all pages are on the nodes named, or no node is named.
_PLAIN_POLICIES = ("bind", "none", None)


def gpu_label(gpu_id: int | None) -> str:
    """A device by its number: "GPU 0", or "CPU" without one."""
    return "CPU" if gpu_id is None else f"GPU {gpu_id}"


def device_label(kind: str, gpu_id: int | None, gpu_numa_node: int | None) -> str:
    """A device with its NUMA node: "GPU 0 (node 1)", or "CPU".

    Linux reports node -1 where the firmware does not say which node a GPU belongs to.
    """
    if kind != "cuda":
        return "CPU"
    known = gpu_numa_node is not None and gpu_numa_node >= 0
    return f"GPU {gpu_id} (node {gpu_numa_node if known else '?'})"


def node_label(node: int | None) -> str:
    """The node that CPUs were bound to: "0", or "any" if they were not bound."""
    return ANY if node is None else str(node)


def memory_label(nodes: Sequence[int], policy: str | None) -> str:
    """The nodes that memory was bound to, with the policy unless it is bind: "0,1 (interleave)"."""
    text = ",".join(map(str, nodes)) or ANY
    return text if policy in _PLAIN_POLICIES else f"{text} ({policy})"


def placement_label(node: int | None, memory_nodes: Sequence[int], policy: str | None) -> str:
    """CPU and memory binding: "node 0, memory 1", or "any" if neither is bound."""
    memory = memory_label(memory_nodes, policy)
    return ANY if node is None and memory == ANY else f"node {node_label(node)}, memory {memory}"


def setting_label(name: str, value: object) -> str:
    """A test setting beside a model's name: "batch_size=16"."""
    return f"{name}={value}"


def mode_label(compile_mode: str | None) -> str:
    """How a model was run: its compile mode, or "eager" if it was not compiled."""
    return compile_mode or EAGER


def compile_label(compile_mode: str | None) -> str:
    """The same beside a model's name: "compiled:default" or "eager"."""
    return f"compiled:{compile_mode}" if compile_mode else EAGER


def duration_text(seconds: float) -> str:
    """Seconds in the largest fitting unit: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
