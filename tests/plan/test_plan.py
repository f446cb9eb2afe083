"""From a configuration and a machine to ordered runs with ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest

from numa_bench.config.schema import ExperimentConfig, HardwareConfig, RunnerConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.errors import ConfigError
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.cells import make_run_id_prefix
from numa_bench.plan.devices import resolve_devices
from numa_bench.plan.estimates import estimate_run_s
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.plan.resolve import resolve_test, resolve_vit
from numa_bench.records import DeviceSpec, Placement, RunSpec, TestSpec, VitSpec
from tests.machines import laptop, make_node, server
from tests.specs import make_spec, overridden

SMALL = ViTConfig(depth=2, dim=128)
LARGE = ViTConfig(depth=6, dim=512)


def experiment(*vits: ViTConfig, **changes: Any) -> ExperimentConfig:
    """A study of these models (or of two), with fields of `hardware` given by name."""
    hardware = {f.name for f in fields(HardwareConfig)} & set(changes)
    given = HardwareConfig(**{name: changes.pop(name) for name in hardware})
    models = list(vits or (SMALL, LARGE))
    return ExperimentConfig(name="study", vit_configs=models, hardware=given, **changes)


def planned(
    machine: Topology,
    *vits: ViTConfig,
    visible: tuple[Gpu, ...] | None = None,
    touched: frozenset[int] = frozenset(),
    **changes: Any,
) -> Plan:
    config = RunnerConfig(experiment=experiment(*vits, **changes))
    return build_plan(config, machine, machine.gpus if visible is None else visible, touched)


def devices(
    machine: Topology, visible: tuple[Gpu, ...] | None = None, **changes: Any
) -> list[int | None]:
    """Indices of the GPUs that would be measured; None for the CPU."""
    seen = machine.gpus if visible is None else visible
    found = resolve_devices(experiment(**changes), machine, seen)
    return [gpu.index if gpu else None for gpu in found]


# --- devices


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        (1, [1]),
        ("1", [1]),
        ([3, 0], [3, 0]),
        ("0,2", [0, 2]),
        ("0-3", [0, 1, 2, 3]),
        ("[0, 2]", [0, 2]),
        ("", [None]),
        ([], [None]),
        ("GPU-5a000000-0000-4000-8000-000000000005", [5]),
        (["GPU-5a0", 0], [5, 0]),
    ],
)
def test_gpu_ids(ids: Any, wanted: list[int | None]) -> None:
    assert devices(server(), gpu_ids=ids) == wanted


def test_auto_takes_gpus_where_there_are_any() -> None:
    assert devices(laptop()) == [None]
    assert devices(server(), device="cpu") == [None]
    assert devices(server(), visible=()) == [None]
    assert devices(server(), device="cuda", gpu_ids=2) == [2]


def test_only_visible_gpus_are_measured_in_their_order() -> None:
    visible = (server().gpus[5], server().gpus[2])

    assert devices(server(), visible) == [5, 2]
    assert devices(server(), visible, gpu_ids=2) == [2]


def test_a_partitioned_gpu_is_refused_where_it_would_be_measured() -> None:
    gpus = tuple(replace(gpu, mig=gpu.index == 3) for gpu in server().gpus)
    machine = replace(server(), gpus=gpus)

    for ids in (3, None, [0, 3]):
        with pytest.raises(ConfigError, match=r"MIG is enabled on GPU 3.*nvidia-smi -i 3 -mig 0"):
            devices(machine, gpu_ids=ids)
    assert devices(machine, gpu_ids=[2, 4]) == [2, 4]
    assert devices(machine, max_gpus=3) == [0, 1, 2]
    assert devices(machine, device="cpu") == [None]


@pytest.mark.parametrize(("most", "wanted"), [(1, [0]), (3, [0, 1, 2]), (99, list(range(8)))])
def test_max_gpus(most: int, wanted: list[int]) -> None:
    assert devices(server(), max_gpus=most) == wanted
    assert devices(laptop(), max_gpus=most) == [None]


@pytest.mark.parametrize(
    ("machine", "visible", "changes", "shown"),
    [
        (
            server(),
            None,
            {"gpu_ids": [0, 8]},
            "experiment.hardware.gpu_ids=[0,8]: no GPU 8: this machine has GPU 0, 1, 2, 3, 4, 5, "
            "6, 7; use one of these, or null for all",
        ),
        (
            server(),
            server().gpus[1:3],
            {"gpu_ids": 8},
            "experiment.hardware.gpu_ids=8: no GPU 8: this machine has GPU 0, 1, 2, 3, 4, 5, 6, 7, "
            "of which 6 are not granted to this process; use one of these, or null for all",
        ),
        (
            server(),
            (),
            {"device": "cuda"},
            "experiment.hardware.device=cuda: this machine has GPU 0, 1, 2, 3, 4, 5, 6, 7, of "
            "which 8 are not granted to this process; use device=cpu",
        ),
        (
            laptop(),
            None,
            {"gpu_ids": "0-1"},
            "experiment.hardware.gpu_ids=0-1: no GPU 0: this machine has no usable GPU; use null "
            "to measure the CPU",
        ),
        (
            server(),
            None,
            {"gpu_ids": "GPU-nobody"},
            "experiment.hardware.gpu_ids=GPU-nobody: no GPU GPU-nobody: this machine has GPU 0,",
        ),
        (
            laptop(),
            None,
            {"device": "cuda"},
            "experiment.hardware.device=cuda: this machine has no usable GPU; use device=cpu",
        ),
        (
            server(),
            None,
            {"device": "cpu", "gpu_ids": [1]},
            "experiment.hardware.gpu_ids=[1]: contradicts device=cpu",
        ),
        (
            server(),
            None,
            {"gpu_ids": [0, 0]},
            "experiment.hardware.gpu_ids=[0,0]: lists a GPU twice; for more runs use "
            "experiment.repeats",
        ),
        (
            server(),
            None,
            {"gpu_ids": [0, "GPU-0a000000"]},
            "experiment.hardware.gpu_ids=[0,GPU-0a000000]: lists a GPU twice",
        ),
    ],
)
def test_gpus_that_cannot_be_had(
    machine: Topology, visible: tuple[Gpu, ...] | None, changes: dict[str, Any], shown: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        devices(machine, visible, **changes)

    assert str(refused.value).startswith(shown)


# --- models and settings


@pytest.mark.parametrize(
    ("vit", "heads", "dim_head", "mlp_dim"),
    [
        (ViTConfig(dim=512), 8, 64, 2048),
        (ViTConfig(dim=64), 1, 64, 256),
        (ViTConfig(dim=32), 1, 32, 128),
        (ViTConfig(dim=200), 2, 100, 800),
        (ViTConfig(dim=512, heads=4), 4, 128, 2048),
        (ViTConfig(dim=512, dim_head=32), 16, 32, 2048),
        (ViTConfig(dim=512, heads=3, dim_head=64), 3, 64, 2048),
        (ViTConfig(dim=48, dim_head=64), 1, 64, 192),
        (ViTConfig(dim=512, mlp_dim=100), 8, 64, 100),
    ],
)
def test_what_a_model_leaves_open_is_filled_in(
    vit: ViTConfig, heads: int, dim_head: int, mlp_dim: int
) -> None:
    found = resolve_vit(vit)

    assert (found.heads, found.dim_head, found.mlp_dim) == (heads, dim_head, mlp_dim)


def test_a_no_op_has_no_sizes() -> None:
    """Settings that cannot matter do not make two no-ops out of one."""
    assert resolve_vit(ViTConfig(depth=0, dim=64)) == VitSpec("vit32x0", 32, 0, 0, 0, 0, 0)


def test_models_are_named_after_their_sizes() -> None:
    assert resolve_vit(ViTConfig(patch_size=16, depth=8, dim=768)).name == "vit16x8x768"
    assert resolve_vit(ViTConfig(name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("llc_mib", "wanted"),
    [(None, 256), (0, 256), (32, 256), (128, 269), (260, 546)],
)
def test_the_pool_is_twice_the_largest_cache(llc_mib: int | None, wanted: int) -> None:
    nodes = (make_node(0, (0,), {}, llc_mib=1), make_node(1, (1,), {}, llc_mib=llc_mib))

    pool = resolve_test(TestConfig(), Topology(nodes=nodes, gpus=()), gpu=False).memory_size_mb

    assert pool == wanted
    assert pool * 1e6 >= 2 * (llc_mib or 0) * 2**20


def test_an_explicit_pool_size_is_kept() -> None:
    assert resolve_test(TestConfig(memory_size_mb=7), server(), gpu=True).memory_size_mb == 7


# --- run ids


def spec_of(**changes: Any) -> RunSpec:
    return replace(make_spec(), **changes)


GPU0 = DeviceSpec("cuda", 0, "H100", "GPU-x", 0)
VIT = VitSpec("vit32x6x512", 32, 6, 512, 8, 64, 2048)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            spec_of(device=GPU0, placement=Placement(1, (1,), "bind", "remote"), vit=VIT),
            "gpu0_numa1_vit32x6x512",
        ),
        (
            replace(
                make_spec(compile_model=True),
                device=GPU0,
                placement=Placement(1, (1,), "bind", "remote"),
                vit=VIT,
            ),
            "gpu0_numa1_vit32x6x512_compiled",
        ),
        (
            spec_of(placement=Placement(0, (2,), "bind", "remote"), vit=VIT),
            "cpu_numa0_mem2_vit32x6x512",
        ),
        (
            spec_of(placement=Placement(0, (2,), "preferred", "remote"), vit=VIT),
            "cpu_numa0_mem2_preferred_vit32x6x512",
        ),
        (
            spec_of(placement=Placement(0, (0, 2), "interleave", "interleave"), vit=VIT),
            "cpu_numa0_interleave_vit32x6x512",
        ),
        (
            spec_of(placement=Placement(0, (0,), "local", "local"), vit=VIT),
            "cpu_numa0_local_vit32x6x512",
        ),
        (spec_of(placement=Placement(0, (), "none", "local"), vit=VIT), "cpu_numa0_vit32x6x512"),
        (
            spec_of(placement=Placement(None, (2,), "bind", "unknown"), vit=VIT),
            "cpu_unbound_mem2_vit32x6x512",
        ),
        (spec_of(vit=VitSpec("no-op", 32, 0, 0, 0, 0, 0)), "cpu_unbound_vit32x0"),
        (
            replace(make_spec(host_work="decode", host_memory="pageable"), vit=VIT),
            "cpu_unbound_vit32x6x512_decode_pageable",
        ),
    ],
)
def test_the_readable_part_of_a_run_id(spec: RunSpec, wanted: str) -> None:
    assert make_run_id_prefix(spec) == wanted


def test_a_run_id_is_prefix_repeat_and_hash() -> None:
    plan = planned(
        server(), LARGE, gpu_ids=0, numa_nodes=2, repeats=3, test=TestConfig(compile_model=True)
    )

    pattern = r"gpu0_numa2_vit32x6x512_compiled_r(\d)-([0-9a-f]{6})"
    matches = [re.fullmatch(pattern, run.run_id) for run in plan.runs]
    assert [match[1] for match in matches if match] == ["0", "1", "2"]
    assert {match[2] for match in matches if match} == {plan.cells[0].cell_hash()[:6]}
    assert [run.repeat for run in plan.runs] == [0, 1, 2]


def test_repeat_study_and_id_do_not_enter_the_hash() -> None:
    """The hash says what is measured: the same for all repeats, and in any study."""
    again = spec_of(study="other", run_id="x", repeat=5)

    assert again.cell_hash() == make_spec().cell_hash()
    assert re.fullmatch("[0-9a-f]{64}", again.cell_hash())


def test_the_hash_of_a_run_without_host_work_is_what_it_always_was() -> None:
    """So that an older study can be resumed, and its specs be read."""
    spec = make_spec()
    later = {"host_work", "host_threads", "host_memory"}
    assert not later & set(spec.cell()["test"])
    stored = spec.to_dict()
    stored["test"] = {k: v for k, v in stored["test"].items() if k not in later}
    assert RunSpec.from_dict(stored) == spec


def _other(value: Any) -> Any:
    """Some other value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, tuple):
        return (*value, 9)
    return f"{value}x" if isinstance(value, str) else 3


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, f.name)
        for part, kind in (
            ("vit", VitSpec),
            ("test", TestSpec),
            ("device", DeviceSpec),
            ("placement", Placement),
        )
        for f in fields(kind)
    ],
)
def test_the_hash_changes_with_every_field(part: str, name: str) -> None:
    spec = make_spec()
    inner = getattr(spec, part)
    changed = replace(spec, **{part: replace(inner, **{name: _other(getattr(inner, name))})})

    assert changed.cell_hash() != spec.cell_hash()


def test_a_spec_survives_json() -> None:
    plan = planned(
        server(),
        numa_nodes=["local", "unbound"],
        memory_policy="interleave",
        test=TestConfig(cpu_threads=3),
    )

    for run in plan.runs:
        again = RunSpec.from_dict(json.loads(json.dumps(run.to_dict())))
        assert again == run
        assert again.cell_hash() == run.cell_hash()


def test_a_spec_of_another_version_is_refused() -> None:
    data = make_spec().to_dict()

    with pytest.raises(ValueError, match="schema_version 99"):
        RunSpec.from_dict({**data, "schema_version": 99})
    with pytest.raises(TypeError, match="unknown"):
        RunSpec.from_dict({**data, "unknown": 1})


def test_two_runs_with_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six digits of a hash can meet; then nothing may run, as files would be overwritten."""
    hashes = iter(f"aaaaaa{i}" for i in range(99))
    found: dict[RunSpec, str] = {}
    monkeypatch.setattr(RunSpec, "cell_hash", lambda self: found.setdefault(self, next(hashes)))

    with pytest.raises(ConfigError, match="two different runs have this id"):
        planned(laptop(), replace(SMALL, name="a"), replace(SMALL, name="b"))


# --- the same thing twice


@pytest.mark.parametrize(
    ("vits", "changes", "key"),
    [
        ([SMALL, SMALL], {}, "experiment.vit_configs"),
        ([SMALL, replace(SMALL, heads=2)], {}, "experiment.vit_configs"),
        ([SMALL, replace(SMALL, **overridden(num_samples="auto"))], {}, "experiment.vit_configs"),
        ([ViTConfig(depth=0), ViTConfig(depth=0, dim=64)], {}, "experiment.vit_configs"),
        ([SMALL], {"numa_nodes": [0, 0]}, "experiment.hardware.numa_nodes"),
        ([SMALL], {"numa_nodes": ["local", 0], "gpu_ids": 0}, "experiment.hardware.numa_nodes"),
        ([SMALL], {"numa_nodes": ["all", "local"]}, "experiment.hardware.numa_nodes"),
        ([SMALL], {"numa_nodes": "unbound,unbound"}, "experiment.hardware.numa_nodes"),
        ([SMALL], {"memory_nodes": [2, 2]}, "experiment.hardware.memory_nodes"),
        ([SMALL], {"gpu_ids": [0, 0]}, "experiment.hardware.gpu_ids"),
    ],
)
def test_duplicates_are_refused(vits: list[ViTConfig], changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(server(), *vits, **changes)

    assert refused.value.key == key
    assert "repeats" in refused.value.fix or "once" in refused.value.fix


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALL, name="again"),
        replace(SMALL, **overridden(seed=1)),
        replace(SMALL, mlp_dim=100),
        replace(SMALL, **overridden(compile_model=True)),
    ],
)
def test_models_that_differ_in_anything_are_two(other: ViTConfig) -> None:
    assert len(planned(laptop(), SMALL, other).cells) == 2


@pytest.mark.parametrize("touched", [0, 1])
def test_a_model_changed_on_the_command_line_may_come_to_equal_another(touched: int) -> None:
    plan = planned(laptop(), SMALL, SMALL, LARGE, touched=frozenset({touched}))

    assert [cell.vit.dim for cell in plan.cells] == [128, 512]
    assert plan.warnings == ("experiment.vit_configs[1] equals another entry; measured once",)


def test_a_change_elsewhere_excuses_no_duplicate() -> None:
    with pytest.raises(ConfigError, match=r"experiment\.vit_configs"):
        planned(laptop(), SMALL, SMALL, LARGE, touched=frozenset({2}))


def test_a_touched_model_excuses_no_duplicate_node() -> None:
    with pytest.raises(ConfigError, match=r"experiment\.hardware\.numa_nodes"):
        planned(server(), SMALL, LARGE, numa_nodes=[0, 0], touched=frozenset({0}))


@pytest.mark.parametrize("dim", [256, 512, 768])
@pytest.mark.parametrize("depth", [4, 6, 8, 12])
def test_the_sweep_of_the_first_model_plans_in_every_job(
    plan: Callable[..., Plan], depth: int, dim: int
) -> None:
    """Two of its twelve jobs make the first model equal to another one of numa_study."""
    found = plan(
        laptop(),
        f"experiment.vit_configs[0].depth={depth}",
        f"experiment.vit_configs[0].dim={dim}",
    )

    merged = (depth, dim) in ((4, 256), (6, 512))
    assert len(found.cells) == (5 if merged else 6)
    assert bool(found.warnings) == merged
    assert (32, depth, dim) in {(c.vit.patch_size, c.vit.depth, c.vit.dim) for c in found.cells}


# --- order


def test_cells_are_devices_then_placements_then_models() -> None:
    plan = planned(server(), gpu_ids=[4, 0])

    assert [(c.device.gpu_id, c.placement.numa_node, c.vit.dim) for c in plan.cells] == [
        (gpu, node, dim)
        for gpu, near, far in ((4, 2, 0), (0, 0, 2))
        for node in (near, near, far, far)  # each with local and with remote memory
        for dim in (128, 512)
    ]


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_every_block_holds_every_cell_once(order: str) -> None:
    plan = planned(server(), order=order, repeats=4)
    size = len(plan.cells)

    hashes = {cell.cell_hash() for cell in plan.cells}
    for block in range(4):
        runs = plan.runs[block * size : (block + 1) * size]
        assert {run.repeat for run in runs} == {block}
        assert {run.cell_hash() for run in runs} == hashes
        assert len(runs) == size


def test_sequential_keeps_the_given_order() -> None:
    plan = planned(server(), order="sequential", repeats=2)

    cells = [cell.cell_hash() for cell in plan.cells]
    assert [run.cell_hash() for run in plan.runs] == cells * 2


def test_blocks_are_shuffled_each_in_its_own_way() -> None:
    plan = planned(server(), repeats=3)
    size = len(plan.cells)
    blocks = [[run.cell_hash() for run in plan.runs[i * size : (i + 1) * size]] for i in range(3)]

    given = [cell.cell_hash() for cell in plan.cells]
    assert all(block != given for block in blocks)
    assert all(a != b for a, b in pairwise(blocks))


def test_the_order_is_that_of_its_seed() -> None:
    def ids(seed: int) -> list[str]:
        return [run.run_id for run in planned(server(), order_seed=seed).runs]

    assert ids(0) == ids(0)
    assert ids(0) != ids(1)
    assert Counter(ids(0)) == Counter(ids(1))


def test_the_order_does_not_touch_the_global_generator() -> None:
    import random

    random.seed(5)
    before = random.getstate()
    planned(server())

    assert random.getstate() == before


# --- the plan as a whole


def test_a_run_knows_its_gpus_name_uuid_and_node() -> None:
    gpu = server().gpus[5]
    plan = planned(server(), gpu_ids=5)

    assert {run.device for run in plan.runs} == {DeviceSpec("cuda", 5, gpu.name, gpu.uuid, 2)}
    assert {run.device for run in planned(laptop()).runs} == {DeviceSpec("cpu")}


def test_the_estimate_counts_what_takes_time() -> None:
    def seconds(**test: Any) -> float:
        return planned(laptop(), LARGE, repeats=2, test=TestConfig(**test)).longest_s

    base = seconds(time_budget_s=10, warmup_budget_s=5)
    assert seconds(time_budget_s=20, warmup_budget_s=5) == base + 2 * 10
    assert seconds(time_budget_s=10, warmup_budget_s=9) == base + 2 * 4
    assert seconds(time_budget_s=10, warmup_budget_s=5, compile_model=True) > base
    assert seconds(timeout_s=1) == 2 * 1


def test_a_no_op_is_not_compiled_in_the_estimate() -> None:
    no_op = make_spec(vit=VitSpec("no-op", 32, 0, 0, 0, 0, 0), compile_model=True)

    assert estimate_run_s(no_op) < estimate_run_s(make_spec(compile_model=True))


def test_planning_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is an argument: a plan for a server can be made on a laptop."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("planning touched the machine")

    monkeypatch.setattr("builtins.open", forbidden)
    monkeypatch.setattr("io.open", forbidden)
    monkeypatch.setattr("os.sched_getaffinity", forbidden)
    monkeypatch.setattr("subprocess.Popen", forbidden)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")

    assert len(planned(server()).cells) == 8 * 4 * 2


@pytest.mark.parametrize(
    ("gpu", "given", "resolved"),
    [
        (True, {}, (0, 2.0, 1.0)),
        (False, {}, (2000, 0.0, 0.0)),
        (True, {"num_samples": 50, "min_timed_s": 0.5, "min_warmup_s": 0.0}, (50, 0.5, 0.0)),
        (False, {"num_samples": 50, "min_timed_s": 0.5, "min_warmup_s": 0.1}, (50, 0.5, 0.1)),
    ],
)
def test_a_gpu_is_timed_by_time_and_the_cpu_by_samples(
    gpu: bool, given: dict[str, Any], resolved: tuple[int, float, float]
) -> None:
    test = resolve_test(TestConfig(**given), server(), gpu=gpu)
    assert (test.num_samples, test.min_timed_s, test.min_warmup_s) == resolved


@pytest.mark.parametrize(
    ("gpu", "given", "resolved"),
    [
        (True, {}, (256, "bf16", 2)),
        (True, {"precision": "fp32"}, (128, "fp32", 2)),
        (True, {"image_size": 256}, (128, "bf16", 2)),
        (True, {"image_size": 1024}, (8, "bf16", 2)),
        (True, {"image_size": 2048, "precision": "tf32"}, (1, "tf32", 2)),
        (True, {"image_size": 8192}, (1, "bf16", 2)),
        (True, {"image_size": 32}, (256, "bf16", 2)),
        (True, {"batch_size": 5, "pipeline_depth": 3, "precision": "fp16"}, (5, "fp16", 3)),
        (False, {}, (8, "fp32", 2)),
        (False, {"image_size": 2048}, (1, "fp32", 2)),
        (False, {"precision": "bf16"}, (8, "bf16", 2)),
    ],
)
def test_what_a_device_decides_by_itself(
    gpu: bool, given: dict[str, Any], resolved: tuple[int, str, int]
) -> None:
    test = resolve_test(TestConfig(**given), server(), gpu=gpu, capability=(9, 0))

    assert (test.batch_size, test.precision, test.pipeline_depth) == resolved


@pytest.mark.parametrize(
    ("capability", "wanted"),
    [(None, "bf16"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")],
)
def test_a_gpu_without_bf16_gets_fp16(capability: tuple[int, int] | None, wanted: str) -> None:
    machine = server()
    gpus = tuple(replace(gpu, compute_capability=capability) for gpu in machine.gpus)

    plan = planned(replace(machine, gpus=gpus), gpu_ids=[0])

    assert {run.test.precision for run in plan.runs} == {wanted}


def test_a_model_may_leave_to_the_device_what_the_study_sets() -> None:
    given = TestConfig(batch_size=4, precision="fp32", pipeline_depth=1)
    own = replace(SMALL, **overridden(batch_size="auto", precision="auto", pipeline_depth="auto"))

    plan = planned(server(), SMALL, own, gpu_ids=[0], numa_nodes=[0], test=given, repeats=1)

    found = [(c.test.batch_size, c.test.precision, c.test.pipeline_depth) for c in plan.cells]
    assert found == [(4, "fp32", 1), (256, "bf16", 2)]


def test_auto_and_the_value_it_stands_for_are_the_same_model() -> None:
    twice = [SMALL, replace(SMALL, **overridden(batch_size=256))]

    with pytest.raises(ConfigError, match=r"^experiment.vit_configs=vit32x2x128: is listed twice"):
        planned(server(), *twice)
    assert len(planned(laptop(), *twice).cells) == 2  # a batch is 8 there
