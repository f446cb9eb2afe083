"""Named studies for `fake_study`: servers, a laptop, every question, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from numa_bench.config.schema import ExperimentConfig, HardwareConfig
from numa_bench.config.schemas.workload import TestConfig, ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.records import Status
from tests.fake_pipeline import Machine, Noise
from tests.fake_study import Scenario, again, write_study
from tests.machines import laptop, make_gpu, make_node, server

NUMA_MODELS = ((32, 0, 512), (32, 2, 128), (32, 4, 256), (32, 6, 512), (16, 8, 768), (16, 12, 1024))
HOSTILE = "<b>x</b>\"'>&../../etc/passwd\n<script>alert(1)</script>"


def server8() -> Topology:
    """Four nodes in two sockets, two GPUs at each."""
    nodes = tuple(
        make_node(
            i,
            range(24 * i, 24 * i + 24),
            {j: 10 if i == j else 12 if i // 2 == j // 2 else 32 for j in range(4)},
            memory_gib=256,
        )
        for i in range(4)
    )
    return Topology(nodes=nodes, gpus=tuple(make_gpu(i, i // 2) for i in range(8)))


def one_gpu() -> Topology:
    """Two nodes, and one GPU on the second."""
    return Topology(nodes=server().nodes, gpus=(make_gpu(0, 2),))


def desktop() -> Topology:
    """One node, one GPU."""
    return Topology(nodes=laptop().nodes, gpus=(make_gpu(0, 0),))


def models(*sizes: tuple[int, int, int], **settings: Any) -> list[ViTConfig]:
    """Models of (patch size, depth, dim)."""
    return [ViTConfig(patch_size=p, depth=d, dim=w, **settings) for p, d, w in sizes]


def experiment(name: str, vits: list[ViTConfig], repeats: int = 5, **hardware: Any) -> Any:
    """A study of these models, on every node with memory on the same unless set otherwise."""
    hardware = {"numa_nodes": "all", **hardware}
    return ExperimentConfig(
        name=name,
        vit_configs=vits,
        repeats=repeats,
        hardware=HardwareConfig(**hardware),
        # Explicit: the figures of the made-up machines are those of such batches.
        test=TestConfig(num_samples=20_000, batch_size=8, precision="fp32"),
    )


def numa_study(topology: Topology, effect: float = 0.2, **changes: Any) -> Scenario:
    """The six models of numa_study on every GPU and node."""
    study = experiment("numa_study", models(*NUMA_MODELS))
    return replace(Scenario(Machine(topology, effect), study), **changes)


def _numa_server8(effect: float, seed: int) -> list[Scenario]:
    # What goes wrong on a real server: a few of each kind.
    bad = {7: Status.FAILED, 44: Status.TIMEOUT, 45: Status.INVALID, 300: Status.INVALID}
    warned = {
        12: "throttled: power cap (in up to 3 readings)",
        60: "foreign_cpu: others used 6% of the measured CPUs",
        130: "spread: the middle half of batch times spans 14%",
    }
    return [numa_study(server8(), effect, seed=seed, bad=bad, warned=warned)]


def _one_gpu(effect: float, seed: int) -> list[Scenario]:
    words = ["local", "remote", "unbound"]
    study = experiment("numa_study", models(*NUMA_MODELS), numa_nodes=words)
    return [Scenario(Machine(one_gpu(), effect), study, seed=seed)]


def _laptop(effect: float, seed: int) -> list[Scenario]:
    study = experiment("laptop_study", models((32, 0, 0), (32, 2, 128)))
    return [Scenario(Machine(laptop(), effect), study, seed=seed, host="laptop")]


def _compile(effect: float, seed: int) -> list[Scenario]:
    vits = models((32, 6, 512))
    for mode in ("default", "reduce-overhead", "max-autotune"):
        vits += models((32, 6, 512), compile_model=True, compile_mode=mode)
    study = experiment("compile_study", vits, numa_nodes="local")
    return [Scenario(Machine(one_gpu(), effect), study, seed=seed)]


def _scaling(effect: float, seed: int) -> list[Scenario]:
    sizes = [(32, d, 512) for d in (2, 4, 6, 8, 12)] + [(32, 6, d) for d in (256, 768, 1024)]
    study = experiment("scaling_study", models(*sizes))
    return [Scenario(Machine(one_gpu(), effect), study, seed=seed)]


def _setting(
    name: str, key: str, values: tuple[int, ...]
) -> Callable[[float, int], list[Scenario]]:
    def build(effect: float, seed: int) -> list[Scenario]:
        vits = [ViTConfig(depth=4, dim=256, **{key: value}) for value in values]  # type: ignore[arg-type]
        return [Scenario(Machine(one_gpu(), effect), experiment(name, vits), seed=seed)]

    return build


def _one_cell(effect: float, seed: int) -> list[Scenario]:
    study = experiment("one_cell", models((32, 6, 512)))
    return [Scenario(Machine(desktop(), effect), study, seed=seed)]


def _one_repeat(effect: float, seed: int) -> list[Scenario]:
    study = experiment("one_repeat", models(*NUMA_MODELS), repeats=1)
    return [Scenario(Machine(one_gpu(), effect), study, seed=seed)]


def _hostile(effect: float, seed: int) -> list[Scenario]:
    study = experiment("hostile", models((32, 2, 128), name=HOSTILE), repeats=3)
    texts = {"error": HOSTILE, "host": HOSTILE, "gpu_name": HOSTILE, "stderr_log": "../../x"}
    return [Scenario(Machine(one_gpu(), effect), study, seed=seed, texts=texts)]


def _running(effect: float, seed: int) -> list[Scenario]:
    return [numa_study(one_gpu(), effect, seed=seed, stop_after=17)]


def _before_after(effect: float, seed: int) -> list[Scenario]:
    before = numa_study(one_gpu(), effect, seed=seed)
    before = replace(before, experiment=replace(before.experiment, name="before_after"))
    machine = replace(before.machine, speedup=0.95)
    driver = {"nvidia_driver": "555.42.02"}
    return [before, again(before, machine=machine, changes=driver)]


#: Kinds of one study directory each, or of several under one name.
KINDS: dict[str, Callable[[float, int], list[Scenario]]] = {
    "server8": _numa_server8,
    "one_gpu": _one_gpu,
    "laptop": _laptop,
    "compile": _compile,
    "scaling": _scaling,
    "batch": _setting("batch_study", "batch_size", (4, 8, 16, 32)),
    "resolution": _setting("resolution_study", "image_size", (256, 512, 1024)),
    "pipeline": _setting("pipeline_study", "pipeline_depth", (1, 2, 4, 8)),
    "one_cell": _one_cell,
    "one_repeat": _one_repeat,
    "hostile": _hostile,
    "running": _running,
    "before_after": _before_after,
    "sweep": lambda *_: [],  # several directories of one sweep, see write_kind
}


def write_kind(root: Path, kind: str, effect: float = 0.2, seed: int = 0) -> list[Path]:
    """Write the studies of one kind below `root`; returns their directories.

    Kinds share a date, so those with the same study name differ in their time of day.
    """
    if kind == "sweep":
        return _write_sweep(root, effect, seed)
    place = timedelta(minutes=list(KINDS).index(kind))
    scenarios = KINDS[kind](effect, seed)
    return [write_study(root, replace(s, started=s.started + place)) for s in scenarios]


def _write_sweep(root: Path, effect: float, seed: int) -> list[Path]:
    """Node by node in jobs of their own: local and remote were never interleaved."""
    parent = root / "multirun" / "sweep_study" / "2026-01-31_15-00-00"
    found = []
    for job, node in enumerate((0, 2)):
        study = experiment("sweep_study", models((32, 0, 0), (32, 6, 512)), numa_nodes=node)
        scenario = Scenario(Machine(one_gpu(), effect), study, noise=Noise(), seed=seed + job)
        found.append(write_study(root, scenario, parent / str(job)))
    (parent / "multirun.yaml").write_text("hydra: {}\n")
    return found
