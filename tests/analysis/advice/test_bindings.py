"""The lines of each tool, and what a tool cannot express."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import pandas as pd
import pytest

from numa_bench.analysis.advice.advice import advise
from numa_bench.analysis.advice.bindings import TOOLS, Bindings, Place, make_bindings
from numa_bench.analysis.advice.result import Advice
from numa_bench.analysis.advice.targets import (
    Target,
    list_local_targets,
    list_measured_targets,
    list_node_targets,
)
from numa_bench.analysis.advice.text import render_advice
from numa_bench.machine.model import Topology
from tests.analysis.advice.made_up import (
    TARGET,
    make_effect,
    make_loaded,
    make_run,
    make_table,
    two_sockets,
)
from tests.conftest import PROJECT
from tests.machines import (
    four_nodes,
    make_gpu,
    unknown_gpu,
    with_memory_only_node,
    with_memoryless_node,
)

ORDER = "CUDA_DEVICE_ORDER=PCI_BUS_ID"


def bind_local(topology: Topology) -> Bindings:
    targets = tuple(list_local_targets(topology, topology.gpus))
    return make_bindings(Place(targets, topology, local=True))


def bind(topology: Topology, *targets: Target, local: bool = False) -> Bindings:
    return make_bindings(Place(targets, topology, local=local))


def commands(bindings: Bindings | Advice, tool: str) -> list[str]:
    return [line.command for line in bindings.lines if line.tool.name == tool]


def test_the_lines_of_a_two_socket_server() -> None:
    bindings = bind_local(two_sockets())

    assert commands(bindings, "numactl")[::7] == [
        f"{ORDER} CUDA_VISIBLE_DEVICES=0 numactl --cpunodebind=0 --membind=0 python app.py",
        f"{ORDER} CUDA_VISIBLE_DEVICES=7 numactl --cpunodebind=2 --membind=2 python app.py",
    ]
    assert commands(bindings, "torchrun") == [
        f"{ORDER} torchrun --numa-binding=node --nproc-per-node=8 train.py"
    ]
    assert commands(bindings, "vLLM") == [
        f"{ORDER} vllm serve MODEL --tensor-parallel-size 8 --numa-bind "
        "--numa-bind-nodes 0 0 0 0 2 2 2 2"
    ]
    assert commands(bindings, "SGLang") == [
        f"{ORDER} python -m sglang.launch_server --model-path MODEL --tp-size 8 "
        "--numa-node 0 0 0 0 2 2 2 2"
    ]
    assert commands(bindings, "srun") == [
        "srun --nodes=1 --ntasks=8 --gpus-per-node=8 --cpu-bind=map_ldom:0,0,0,0,2,2,2,2 "
        "--gpu-bind=map_gpu:0,1,2,3,4,5,6,7 --mem-bind=local python app.py"
    ]
    assert bindings.left_out == ()


def test_some_gpus_of_a_machine_are_made_the_only_visible_ones() -> None:
    topology = two_sockets()
    targets = list_local_targets(topology, [topology.gpus[1], topology.gpus[6]])

    bindings = bind(topology, *targets, local=True)

    assert commands(bindings, "torchrun")[0].startswith(f"{ORDER} CUDA_VISIBLE_DEVICES=1,6 ")
    assert "--nproc-per-node=2" in commands(bindings, "torchrun")[0]
    assert commands(bindings, "vLLM")[0].endswith("--numa-bind-nodes 0 2")
    # All GPUs are requested, so that numbers are the same whether Slurm counts all or its own.
    assert "--ntasks=2 --gpus-per-node=8 " in commands(bindings, "srun")[0]
    assert "--gpu-bind=map_gpu:1,6 " in commands(bindings, "srun")[0]


def test_one_gpu_of_several_has_no_srun_line() -> None:
    topology = two_sockets()
    (target,) = list_local_targets(topology, topology.gpus[:1])

    bindings = bind(topology, target, local=True)

    assert commands(bindings, "srun") == []
    assert any("ignored with one task" in text for text in bindings.left_out)


def test_the_only_gpu_needs_no_gpu_bind() -> None:
    (line,) = commands(bind_local(four_nodes()), "srun")

    assert "--gpu-bind" not in line
    assert "--cpu-bind=map_ldom:2 --mem-bind=local" in line


def test_memory_on_another_node_needs_lists_of_cpus() -> None:
    topology = two_sockets()

    bindings = bind(topology, Target(0, 0, (2,)), Target(1, 0, (2,)))

    assert "numactl --cpunodebind=0 --membind=2 " in commands(bindings, "numactl")[0]
    assert commands(bindings, "vLLM")[0].endswith(
        "--numa-bind-nodes 2 2 --numa-bind-cpus 0-47 0-47"
    )
    assert "--cpu-bind=map_ldom:0,0 " in commands(bindings, "srun")[0]
    assert "--mem-bind=map_mem:2,2 " in commands(bindings, "srun")[0]
    assert [text.partition(":")[0] for text in bindings.left_out] == ["torchrun", "SGLang"]


def test_interleaved_memory_is_for_numactl_alone() -> None:
    topology = two_sockets()

    bindings = bind(topology, *(Target(g, 0, (0, 2), "interleave") for g in (0, 1)))

    assert "--cpunodebind=0 --interleave=0,2 " in commands(bindings, "numactl")[0]
    assert len(bindings.left_out) == 4


def test_some_cpus_of_a_node_are_given_by_number() -> None:
    topology = two_sockets()
    targets = [Target(g, 0, (0,), cpus=(0, 1, 24, 25), affinity="core-complex") for g in (0, 1)]

    bindings = bind(topology, *targets, local=True)

    assert "numactl --physcpubind=0-1,24-25 --membind=0" in commands(bindings, "numactl")[0]
    assert "--numa-binding=core-complex" in commands(bindings, "torchrun")[0]
    assert commands(bindings, "vLLM")[0].endswith("--numa-bind-cpus 0-1,24-25 0-1,24-25")
    assert "--cpu-bind=mask_cpu:0x3000003,0x3000003 " in commands(bindings, "srun")[0]
    assert any(text.startswith("SGLang") for text in bindings.left_out)


@pytest.mark.parametrize("affinity", ["physcpu", "node-no-smt"])
def test_cpus_that_no_mode_of_torchrun_chooses_are_left_out(affinity: str) -> None:
    target = Target(0, 0, (0,), cpus=(0, 1), affinity=affinity)

    bindings = bind(two_sockets(), target, local=True)

    assert any(
        text.startswith("torchrun: --numa-binding has no mode") for text in bindings.left_out
    )


def test_every_line_can_be_pasted() -> None:
    """No tool is named without a version and a source; all lists are as long as there are GPUs."""
    bindings = bind_local(two_sockets())

    assert {line.tool for line in bindings.lines} == set(TOOLS)
    for line in bindings.lines:
        words = shlex.split(line.command)
        assert not {"<", ">", "|", ";"} & set(line.command)
        assert "\n" not in line.command + line.comment
        for flag in ("--numa-bind-nodes", "--numa-node"):
            if flag in words:
                assert len(words[words.index(flag) + 1 :]) == 8


def test_the_documentation_has_each_tool_with_its_version_and_source() -> None:
    text = (PROJECT / "docs" / "bindings.md").read_text()

    for tool in TOOLS:
        assert re.search(
            rf"^\| {tool.name} .*{re.escape(tool.checked)}.*{re.escape(tool.source)}", text, re.M
        )


def test_memory_of_a_gpu_at_a_node_without_memory_is_on_the_nearest() -> None:
    topology = with_memoryless_node(2)
    (target,) = list_local_targets(topology, topology.gpus)

    assert (target.cpu_node, target.memory_nodes) == (2, (1,))
    assert target.cpus == (8, 9, 10, 11), "numactl refuses --cpunodebind without memory"


def test_cpus_of_a_gpu_at_a_node_without_cpus_are_on_the_nearest() -> None:
    topology = with_memory_only_node(2)
    (target,) = list_local_targets(topology, topology.gpus)

    bindings = bind(topology, target, local=True)

    assert (target.cpu_node, target.memory_nodes) == (1, (2,))
    assert any(text.startswith("torchrun") for text in bindings.left_out)


def test_a_gpu_of_unknown_node_has_no_target() -> None:
    topology = replace(unknown_gpu(), gpus=(make_gpu(0, -1), make_gpu(1, 1)))

    assert [t.gpu for t in list_local_targets(topology, topology.gpus)] == [1]


def test_nodes_without_cpus_have_no_process() -> None:
    assert [t.cpu_node for t in list_node_targets(with_memory_only_node())] == [0, 1]


def test_measured_targets_are_what_the_runs_were_bound_to() -> None:
    runs = pd.DataFrame(
        [
            make_run(4, "remote", numa_node=0, memory_nodes=[0], cpus="0-47"),
            make_run(0, "remote", numa_node=2, memory_nodes=[2], cpus="48-59", cpu_affinity="x"),
            make_run(0, "local"),
            make_run(0, "remote", numa_node=2, memory_nodes=[2], cpus="48-59", cpu_affinity="x"),
        ]
    )

    targets = list_measured_targets(runs, "remote", two_sockets())

    assert targets == [
        Target(0, 2, (2,), "bind", tuple(range(48, 60)), "x"),
        Target(4, 0, (0,), "bind", (), "node"),
    ]


def test_text_has_commands_as_they_are_and_all_else_as_comments() -> None:
    """Also where a model's name has a line break."""
    rows = make_table(make_effect("remote", 0.9, models=("a\nrm -rf x", "<b>")))
    advices = advise(rows, make_loaded(two_sockets()), TARGET)

    text = render_advice(advices, ["Not a measurement: 8 of 8 runs are\nmade up."])

    plain = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert plain == [line.command for line in advices[0].lines]
    assert text.startswith("# Not a measurement: 8 of 8 runs are made up.\n\n# gpu-server-1")
    assert "# numactl (flags checked with 2.0.16)" in text


def test_text_names_the_tools_that_were_left_out() -> None:
    topology = replace(two_sockets(), gpus=two_sockets().gpus[:2])
    runs = [make_run(g, "local/remote", memory_nodes=[2]) for g in (0, 1)]
    advices = advise(
        make_table(make_effect("local/remote", 1.05)), make_loaded(topology, runs), TARGET
    )

    assert "# no SGLang: --numa-node binds CPUs and memory to one whole node" in render_advice(
        advices
    )


def test_no_advice_is_a_comment() -> None:
    assert render_advice([]) == "# No advice: there are no runs.\n"
