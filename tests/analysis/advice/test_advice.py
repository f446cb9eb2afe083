"""What is advised, in which words, for which pooled effects and machines."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from numa_bench.analysis.advice.advice import advise
from numa_bench.analysis.advice.result import Advice
from numa_bench.machine.model import Topology
from tests.analysis.advice.made_up import (
    GROUP,
    TARGET,
    four_per_two_sockets,
    make_effect,
    make_equal,
    make_loaded,
    make_run,
    make_study,
    make_table,
    make_unknown,
    two_sockets,
)
from tests.machines import laptop, make_gpu, one_node_unknown_gpu, unknown_gpu

EMPTY = pd.DataFrame()
COMPUTE = {"bound": "compute", "models": ("vit16x12x1024",)}


def advise_on(
    *rows: dict[str, Any],
    topology: Topology | None = None,
    runs: list[dict[str, Any]] | None = None,
) -> Advice:
    """The advice of one group, on the two-socket server unless a machine is given."""
    loaded = make_loaded(topology or two_sockets(), runs)
    (advice,) = advise(make_table(*rows), loaded, TARGET)
    return advice


def commands(advice: Advice, tool: str) -> list[str]:
    return [line.command for line in advice.lines if line.tool.name == tool]


def test_a_slower_remote_placement_is_advised_against_with_its_loss() -> None:
    advice = advise_on(make_effect("remote", 0.93), make_equal("remote", **COMPUTE))

    assert (advice.kind, advice.placement) == ("bind", "local")
    assert advice.text == (
        "Bind CPUs and memory to each GPU's own node. Against remote: transfer-bound models "
        "(vit32x0, vit32x2x128): avoids a loss of 7 % (95 % CI 6.6 to 7.4, 8 GPUs x 5 repeats); "
        "compute-bound models (vit16x12x1024): no difference (equal within 2 %)."
    )


def test_unbound_is_what_a_binding_is_compared_to() -> None:
    advice = advise_on(make_effect("remote", 0.9), make_effect("unbound", 0.95))

    assert "Against unbound: transfer-bound models" in advice.text
    assert "5 %" in advice.text
    assert "10 %" not in advice.text


def test_a_loss_that_unbound_does_not_have_is_named_apart() -> None:
    advice = advise_on(make_effect("remote", 0.9), make_equal("unbound"))

    assert "Against unbound: transfer-bound models (vit32x0, vit32x2x128): no diff" in advice.text
    assert advice.details[0].startswith("Against remote: transfer-bound models")
    assert "avoids a loss of 10 %" in advice.details[0]


def test_models_without_a_bound_are_named_each() -> None:
    advice = advise_on(
        make_effect("remote", 0.93, level="model", bound="", models=("vit32x0",)),
        make_equal("remote", level="model", bound="", models=("vit16x12x1024",)),
    )

    assert "vit32x0: avoids a loss of 7 %" in advice.text
    assert "vit16x12x1024: no difference (equal within 2 %)" in advice.text


def test_models_of_a_bound_are_a_range_behind_its_effect() -> None:
    advice = advise_on(
        make_effect("remote", 0.93),
        make_effect("remote", 0.95, level="model", models=("vit32x0",)),
        make_effect("remote", 0.91, level="model", models=("vit32x2x128",)),
    )

    assert "avoids a loss of 7 %" in advice.text
    assert "by model 5 to 9 %" in advice.text
    assert "vit32x0:" not in advice.text


def test_many_models_of_one_outcome_are_counted() -> None:
    rows = [
        make_effect("remote", 0.95 - i / 100, level="model", bound="", models=(f"net{i}",))
        for i in range(5)
    ]

    assert "5 models: avoids a loss of 5 to 9 %" in advise_on(*rows).text


def test_of_a_pool_of_many_models_the_first_are_named() -> None:
    models = tuple(f"net{i}" for i in range(300))

    advice = advise_on(make_effect("remote", 0.93, models=models))

    assert "(net0, net1, net2, net3, net4 and 295 more): avoids a loss of 7 %" in advice.text


@pytest.mark.parametrize("word", ["remote", "local/remote", "remote/local", "same_socket"])
def test_any_slower_placement_is_a_reason_to_bind(word: str) -> None:
    advice = advise_on(make_effect(word, 0.95), make_equal("unbound"))

    assert advice.kind == "bind"


def test_equal_placements_are_not_worth_a_binding() -> None:
    advice = advise_on(make_equal("remote"), make_equal("unbound"))

    assert advice.kind == "do_not_bother"
    assert advice.placement is None
    assert advice.lines == ()
    assert advice.text == (
        "Do not bother: no placement differs from local by more than 2 % (all 95 % intervals are "
        "within 0.5 %)."
    )


def test_a_claimed_difference_inside_the_target_is_not_worth_a_binding() -> None:
    advice = advise_on(make_effect("remote", 0.99, equal=True))

    assert advice.kind == "do_not_bother"
    assert "within 1.4 %" in advice.text


def test_nothing_found_where_the_target_would_have_shown_is_not_worth_a_binding() -> None:
    missed = {"claimed": False, "half": 0.03, "detectable": 0.018}

    advice = advise_on(make_effect("remote", 0.999, **missed), make_equal("unbound"))

    assert advice.kind == "do_not_bother"
    assert "1.8 % or more would have shown" in advice.text


def test_too_few_runs_give_no_advice_but_the_lines() -> None:
    advice = advise_on(make_unknown("remote"), make_equal("unbound"))

    assert (advice.kind, advice.placement) == ("not_enough", "local")
    assert "Not enough runs to advise: repeat with experiment.repeats=12" in advice.text
    assert "what they gain is not known" in advice.text
    assert len(commands(advice, "numactl")) == 8


def test_noise_that_no_repeats_overcome_is_named() -> None:
    advice = advise_on(make_unknown("remote", repeats_needed=math.nan))

    assert advice.kind == "not_enough"
    assert "too large to show 2 %" in advice.text
    assert "experiment.repeats" not in advice.text


def test_one_run_has_no_numbers() -> None:
    """NaN is neither slower nor equal, and is null in JSON."""
    nothing = dict.fromkeys(("low", "high", "detectable", "p_holm", "repeats_needed"), math.nan)

    advice = advise_on(make_effect("remote", math.nan, claimed=False, **nothing))

    assert advice.kind == "not_enough"
    assert advice.to_dict()["effects"][0]["change"] is None
    assert "nan" not in json.dumps(advice.to_dict(), allow_nan=False).lower()


def test_without_pooled_effects_bindings_have_no_gain() -> None:
    (advice,) = advise(EMPTY, make_loaded(two_sockets()), TARGET)

    assert advice.kind == "no_verdict"
    assert advice.text.startswith("No verdict on placement:")
    assert "not known" in advice.text
    assert advice.lines


def test_effects_of_another_group_are_not_used() -> None:
    advice = advise_on(make_effect("remote", 0.9, group="other"))

    assert advice.kind == "no_verdict"


def test_a_faster_placement_is_advised_plainly_with_what_its_runs_were_bound_to() -> None:
    runs = [
        make_run(0, "local"),
        make_run(0, "remote", numa_node=2, memory_nodes=[2], cpus="48-95"),
    ]

    advice = advise_on(make_effect("remote", 1.03), make_equal("remote", **COMPUTE), runs=runs)

    assert (advice.kind, advice.placement) == ("bind_elsewhere", "remote")
    assert advice.text.startswith("Bind as remote: it is faster than local here.")
    assert "gains 3 % (95 % CI 2.6 to 3.4, 8 GPUs x 5 repeats)" in advice.text
    (line,) = commands(advice, "numactl")
    assert line.endswith("numactl --cpunodebind=2 --membind=2 python app.py")
    assert any(text.startswith("torchrun: ") for text in advice.left_out)


def test_unbound_that_is_faster_needs_no_lines() -> None:
    advice = advise_on(make_effect("unbound", 1.04), make_effect("remote", 0.9))

    assert advice.kind == "leave_unbound"
    assert advice.text.startswith("Do not bind: unbound is faster than local.")
    assert advice.lines == ()


def test_a_placement_that_is_faster_for_some_and_slower_for_others_is_named_in_details() -> None:
    advice = advise_on(make_effect("remote", 0.93), make_effect("remote", 1.05, **COMPUTE))

    assert (advice.kind, advice.placement) == ("bind", "local")
    assert "compute-bound models (vit16x12x1024): loses 5 %" in advice.text
    assert any("faster than local for some models" in detail for detail in advice.details)


@pytest.mark.parametrize(
    ("memory", "cpus", "says"),
    [
        (make_effect("local/remote", 0.94), make_equal("remote/local"), "It is the memory that"),
        (make_equal("local/remote"), make_effect("remote/local", 0.94), "It is the CPUs that"),
        (make_effect("local/remote", 0.94), make_effect("remote/local", 0.97), "Both matter."),
    ],
)
def test_the_side_that_matters_is_named(
    memory: dict[str, Any], cpus: dict[str, Any], says: str
) -> None:
    advice = advise_on(make_effect("remote", 0.93), memory, cpus)

    assert says in advice.details[-1]
    assert "6 %" in advice.details[-1]


def test_a_side_that_is_not_known_is_not_called_harmless() -> None:
    advice = advise_on(
        make_effect("remote", 0.93), make_effect("local/remote", 0.94), make_unknown("remote/local")
    )

    assert "CPUs alone on another node: not enough runs to say." in advice.details[-1]
    assert "It is the memory" not in advice.details[-1]


@pytest.mark.parametrize("topology", [laptop(), one_node_unknown_gpu()])
def test_one_node_has_nothing_to_bind(topology: Topology) -> None:
    for pooled in (EMPTY, make_table(make_equal("unbound")), make_table(make_unknown("unbound"))):
        (advice,) = advise(pooled, make_loaded(topology), TARGET)

        assert advice.kind == "nothing_to_bind"
        assert advice.text.startswith("Nothing to bind: this machine has one NUMA node")
        assert advice.lines == ()


def test_one_node_where_unbound_is_slower_is_worth_a_binding() -> None:
    """A fact that was measured outweighs what one node lets expect."""
    advice = advise_on(make_effect("unbound", 0.95), topology=laptop())

    assert advice.kind == "bind"
    assert commands(advice, "numactl") == ["numactl --cpunodebind=0 --membind=0 python app.py"]


def test_a_gpu_of_unknown_node_has_no_binding_and_the_reason() -> None:
    advice = advise_on(topology=unknown_gpu())

    assert advice.kind == "no_binding"
    assert advice.lines == ()
    assert "which node GPU 0 is attached to (numa_node -1)" in advice.text


def test_gpus_of_known_node_are_bound_beside_one_of_unknown_node() -> None:
    plain = two_sockets()
    topology = replace(plain, gpus=(*plain.gpus[:7], make_gpu(7, -1)))

    advice = advise_on(make_effect("remote", 0.93), topology=topology)

    assert advice.kind == "bind"
    assert len(commands(advice, "numactl")) == 7
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6 " in commands(advice, "vLLM")[0]
    assert advice.details[-1].startswith("Not for all GPUs: ")
    assert "GPU 7 is attached" in advice.details[-1]


def test_equal_gpus_of_unknown_node_are_no_matter() -> None:
    assert advise_on(make_equal("unbound"), topology=unknown_gpu()).kind == "do_not_bother"


def test_a_machine_without_gpu_has_a_line_per_node_and_no_gpu_tools() -> None:
    topology = replace(two_sockets(), gpus=())

    advice = advise_on(make_effect("remote", 0.8, gpus=0), topology=topology)

    assert advice.text.startswith("Bind CPUs and memory to the same node.")
    assert "GPU" not in advice.text
    assert [line.command for line in advice.lines] == [
        "numactl --cpunodebind=0 --membind=0 python app.py",
        "numactl --cpunodebind=2 --membind=2 python app.py",
    ]
    assert advice.left_out == ()


@pytest.mark.parametrize(
    ("same_socket", "modes"),
    [
        (make_equal("same_socket"), ["node", "socket"]),
        (make_effect("same_socket", 0.96), ["node"]),
        (make_unknown("same_socket"), ["node"]),
    ],
)
def test_the_whole_socket_is_offered_only_where_its_nodes_are_equal(
    same_socket: dict[str, Any], modes: list[str]
) -> None:
    advice = advise_on(make_effect("remote", 0.93), same_socket, topology=four_per_two_sockets())

    lines = commands(advice, "torchrun")
    assert [line.partition("--numa-binding=")[2].split()[0] for line in lines] == modes


def test_the_whole_socket_is_not_offered_where_sockets_are_unknown() -> None:
    plain = four_per_two_sockets()
    topology = replace(plain, nodes=tuple(replace(n, socket=None) for n in plain.nodes))

    advice = advise_on(make_effect("remote", 0.9), make_equal("same_socket"), topology=topology)

    assert len(commands(advice, "torchrun")) == 1


def test_each_group_has_an_advice_of_its_own_machine() -> None:
    loaded = make_loaded(two_sockets())
    other = make_run(None, group="g2", host="laptop", study_dir="outputs/b")
    frame = pd.concat([loaded.frame, pd.DataFrame([other])], ignore_index=True)
    loaded = replace(
        loaded, frame=frame, studies=[*loaded.studies, make_study(laptop(), "outputs/b")]
    )

    first, second = advise(make_table(make_effect("remote", 0.9)), loaded, TARGET)

    assert (first.group, first.kind) == (GROUP, "bind")
    assert (second.group, second.kind) == ("g2", "nothing_to_bind")
    assert second.machine == "laptop"


@pytest.mark.parametrize("broken", [None, {"nodes": 3}, {"nodes": [], "gpus": []}])
def test_without_a_topology_no_binding_can_be_given(broken: dict[str, Any] | None) -> None:
    loaded = make_loaded(two_sockets())
    (study,) = loaded.studies
    loaded = replace(loaded, studies=[replace(study, topology=broken)])

    (advice,) = advise(make_table(make_effect("remote", 0.9)), loaded, TARGET)

    assert advice.kind == "no_binding"
    assert advice.text.startswith("No binding can be given: ")
    assert advice.effects[0].outcome == "slower"


def test_gpus_that_the_topology_does_not_list_are_not_taken_for_cpus() -> None:
    advice = advise_on(make_effect("remote", 0.9), topology=laptop(), runs=[make_run(3)])

    assert advice.kind == "no_binding"
    assert "none of the GPUs" in advice.text


def test_the_gpus_of_sets_of_workers_were_measured() -> None:
    workers = [{"gpu_id": 0}, {"gpu_id": 5}, {"gpu_id": None}]
    runs = [make_run(None, device="cuda", scenario="together", workers=workers)]

    advice = advise_on(make_effect("remote", 0.9), runs=runs)

    assert [line.gpu for line in advice.lines if line.tool.name == "numactl"] == [0, 5]


def test_the_placement_of_a_set_of_workers_has_no_lines() -> None:
    runs = [make_run(None, "mixed", device="cuda", scenario="x", workers=[{"gpu_id": 0}])]

    advice = advise_on(make_effect("mixed", 1.1), runs=runs)

    assert advice.kind == "bind_elsewhere"
    assert advice.lines == ()
    assert "sets of workers" in advice.details[-1]


def test_no_runs_have_no_advice() -> None:
    assert advise(EMPTY, replace(make_loaded(laptop()), frame=pd.DataFrame()), TARGET) == ()
