"""Command lines that apply a binding: numactl, torchrun, vLLM, SGLang, srun. Pure.

docs/bindings.md says how each tool applies it. A tool that cannot express a binding is left out
with the reason; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numa_bench.analysis.advice.targets import Target
from numa_bench.machine.model import Topology
from numa_bench.records import WHOLE_NODE, JsonDict
from numa_bench.records.cpu_lists import format_cpu_list

#: CUDA's own order of GPUs is by speed; the numbers of nvidia-smi, which are used here, are in PCI
#: order (CUDA C++ Programming Guide, "CUDA Environment Variables").
_ORDER = "CUDA_DEVICE_ORDER=PCI_BUS_ID"
#: Modes of torchrun that bind to the node of the GPU.
_TORCHRUN_MODES = (WHOLE_NODE, "socket", "exclusive", "core-complex")


@dataclass(frozen=True)
class Tool:
    """A program with the version whose documentation or code was checked for the flags used."""

    name: str
    checked: str
    source: str


NUMACTL = Tool("numactl", "2.0.16", "https://github.com/numactl/numactl/blob/v2.0.16/numactl.8")
TORCHRUN = Tool("torchrun", "torch 2.13.0", "https://docs.pytorch.org/docs/main/elastic/numa.html")
VLLM = Tool("vLLM", "0.22.1", "https://docs.vllm.ai/en/v0.22.1/api/vllm/utils/numa_utils/")
SGLANG = Tool(
    "SGLang", "0.5.23",
    "https://github.com/sgl-project/sglang/blob/main/docs/advanced_features/server_arguments.md",
)  # fmt: skip
SRUN = Tool(
    "srun", "Slurm 22.05.8", "https://manpages.debian.org/bookworm/slurm-client/srun.1.en.html"
)
TOOLS = (NUMACTL, TORCHRUN, VLLM, SGLANG, SRUN)


@dataclass(frozen=True)
class Line:
    """A command to paste. `gpu` None: it is for all GPUs at once, or for a node's CPUs."""

    tool: Tool
    command: str
    comment: str
    gpu: int | None = None

    def to_dict(self) -> JsonDict:
        return {
            "tool": self.tool.name,
            "checked_version": self.tool.checked,
            "source": self.tool.source,
            "gpu": self.gpu,
            "command": self.command,
            "comment": self.comment,
        }


@dataclass(frozen=True)
class Bindings:
    """The lines of all tools, and why a tool has none."""

    lines: tuple[Line, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """What the lines are made of: targets, the machine, and what is known of the placement.

    `local`: the placement is the GPU's own node, so a tool may find the node itself.
    `socket_is_local`: the other nodes of a socket were measured and are equal to the GPU's own.
    """

    targets: tuple[Target, ...]
    topology: Topology
    local: bool
    socket_is_local: bool = False

    @property
    def gpus(self) -> list[int]:
        return [t.gpu for t in self.targets if t.gpu is not None]

    @property
    def environment(self) -> str:
        """Variables that make the lists below count the GPUs of the targets, in their order."""
        if len(self.gpus) == len(self.topology.gpus):
            return _ORDER
        return f"{_ORDER} CUDA_VISIBLE_DEVICES={','.join(map(str, self.gpus))}"


class _CannotExpressError(Exception):
    """The tool has no flags for a binding."""


def make_bindings(place: Place) -> Bindings:
    """The lines of every tool that can express the placement; without GPUs those of numactl."""
    if not place.targets:
        return Bindings()
    lines = _make_numactl_lines(place.targets)
    left_out = []
    makers: Sequence[tuple[Tool, Callable[[Place], list[Line]]]] = (
        (TORCHRUN, _make_torchrun_lines), (VLLM, _make_vllm_lines),
        (SGLANG, _make_sglang_lines), (SRUN, _make_srun_lines),
    )  # fmt: skip
    for tool, make in makers if place.gpus else ():
        try:
            lines += make(place)
        except _CannotExpressError as error:
            left_out.append(f"{tool.name}: {error}")
    return Bindings(tuple(lines), tuple(left_out))


def _make_numactl_lines(targets: Sequence[Target]) -> list[Line]:
    lines = []
    for target in targets:
        of = "" if target.gpu is None else f"{_ORDER} CUDA_VISIBLE_DEVICES={target.gpu} "
        who = f"node {target.cpu_node}" if target.gpu is None else f"GPU {target.gpu}"
        comment = f"{who}: {_describe_target(target)}, before the program starts"
        arguments = " ".join(["numactl", *list_numactl_arguments(target)])
        lines.append(Line(NUMACTL, f"{of}{arguments} python app.py", comment, target.gpu))
    return lines


def list_numactl_arguments(target: Target) -> list[str]:
    """The options of numactl that bind one process."""
    arguments = []
    if target.cpus:
        arguments.append(f"--physcpubind={format_cpu_list(target.cpus)}")
    elif target.cpu_node is not None:
        arguments.append(f"--cpunodebind={target.cpu_node}")
    nodes = ",".join(map(str, target.memory_nodes))
    option = {"bind": "membind", "preferred": "preferred", "interleave": "interleave"}
    if target.policy == "local":
        arguments.append("--localalloc")
    elif nodes and target.policy in option:
        arguments.append(f"--{option[target.policy]}={nodes}")
    return arguments


def _describe_target(target: Target) -> str:
    if target.on_one_node:
        return f"CPUs and memory of node {target.cpu_node}"
    cpus = f"{len(target.cpus)} CPUs of node" if target.cpus else "CPUs of node"
    parts = [] if target.cpu_node is None else [f"{cpus} {target.cpu_node}"]
    if target.memory_nodes:
        nodes = ",".join(map(str, target.memory_nodes))
        policy = "" if target.policy == "bind" else f" ({target.policy})"
        parts.append(f"memory of node {nodes}{policy}")
    return " and ".join(parts)


def _make_torchrun_lines(place: Place) -> list[Line]:
    modes = {target.affinity for target in place.targets}
    mode = modes.pop() if len(modes) == 1 else ""
    own = {gpu.index: gpu.numa_node for gpu in place.topology.gpus}
    if not place.local or any(
        own.get(g) != t.cpu_node for g, t in zip(place.gpus, place.targets, strict=True)
    ):
        raise _CannotExpressError("--numa-binding binds to the GPU's own node only")
    if mode not in _TORCHRUN_MODES:
        raise _CannotExpressError("--numa-binding has no mode for these CPUs")
    comment = f"one rank per GPU, on {_MODE_WORDS[mode]}; binds CPUs, memory follows by first touch"
    lines = [_write_torchrun(place, mode, comment)]
    if place.socket_is_local and mode == WHOLE_NODE:
        comment = (
            "the same with the CPUs of the whole socket: no slower here, as the other nodes of "
            "the socket are equal to the GPU's own"
        )
        lines.append(_write_torchrun(place, "socket", comment))
    return lines


_MODE_WORDS = {
    WHOLE_NODE: "the CPUs of the GPU's node",
    "socket": "the CPUs of the GPU's socket",
    "exclusive": "a share of its own of the CPUs of the GPU's node",
    "core-complex": "CPUs of the GPU's node that share an L3 cache",
}


def _write_torchrun(place: Place, mode: str, comment: str) -> Line:
    command = (
        f"{place.environment} torchrun --numa-binding={mode} "
        f"--nproc-per-node={len(place.gpus)} train.py"
    )
    return Line(TORCHRUN, command, comment)


def _make_vllm_lines(place: Place) -> list[Line]:
    nodes = _list_memory_nodes(place, "--numa-bind-nodes")
    command = (
        f"{place.environment} vllm serve MODEL --tensor-parallel-size {len(place.gpus)} "
        f"--numa-bind --numa-bind-nodes {' '.join(map(str, nodes))}"
    )
    comment = "one worker per GPU, CPUs and memory of the node at its place in the list"
    if not all(target.on_one_node for target in place.targets):
        # With a list of CPUs the nodes say where memory is (numactl --physcpubind --membind).
        lists = " ".join(format_cpu_list(_list_cpus(place, t)) for t in place.targets)
        command += f" --numa-bind-cpus {lists}"
        comment = "one worker per GPU: memory of the node, and the CPUs, at its place in the lists"
    return [Line(VLLM, command, comment)]


def _make_sglang_lines(place: Place) -> list[Line]:
    if not all(target.on_one_node for target in place.targets):
        raise _CannotExpressError("--numa-node binds CPUs and memory to one whole node")
    nodes = " ".join(str(target.cpu_node) for target in place.targets)
    command = (
        f"{place.environment} python -m sglang.launch_server --model-path MODEL "
        f"--tp-size {len(place.gpus)} --numa-node {nodes}"
    )
    comment = "one scheduler process per GPU, CPUs and memory of the node at its place in the list"
    return [Line(SGLANG, command, comment)]


def _make_srun_lines(place: Place) -> list[Line]:
    tasks, every = len(place.gpus), len(place.topology.gpus)
    if tasks == 1 and every > 1:
        raise _CannotExpressError("--gpu-bind is ignored with one task; use numactl in the task")
    arguments = [
        f"--nodes=1 --ntasks={tasks} --gpus-per-node={every}", _write_cpu_bind(place)
    ]  # fmt: skip
    if tasks > 1:
        arguments.append(f"--gpu-bind=map_gpu:{','.join(map(str, place.gpus))}")
    # The manual recommends no other type than local where local is meant.
    memory = _list_memory_nodes(place, "--mem-bind")
    near = all(target.only_memory == target.cpu_node for target in place.targets)
    arguments.append(f"--mem-bind={'local' if near else 'map_mem:' + ','.join(map(str, memory))}")
    comment = "one task per GPU, in a job that has the whole machine (sbatch --exclusive)"
    return [Line(SRUN, f"srun {' '.join(arguments)} python app.py", comment)]


def _write_cpu_bind(place: Place) -> str:
    if any(target.cpus or target.cpu_node is None for target in place.targets):
        masks = [sum(1 << cpu for cpu in _list_cpus(place, t)) for t in place.targets]
        return f"--cpu-bind=mask_cpu:{','.join(f'{mask:#x}' for mask in masks)}"
    return f"--cpu-bind=map_ldom:{','.join(str(t.cpu_node) for t in place.targets)}"


def _list_memory_nodes(place: Place, flag: str) -> list[int]:
    nodes = [target.only_memory for target in place.targets]
    if any(node is None for node in nodes):
        raise _CannotExpressError(f"{flag} takes one memory node for each GPU")
    return [node for node in nodes if node is not None]


def _list_cpus(place: Place, target: Target) -> tuple[int, ...]:
    """The CPUs of a target by number; all of the machine where they are not bound."""
    nodes = place.topology.nodes
    own = [node for node in nodes if target.cpu_node in (None, node.id)]
    return target.cpus or tuple(cpu for node in own for cpu in node.cpus)
