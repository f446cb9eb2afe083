"""Small analyses of made-up studies, one for each case that figures and page must handle."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.report.files import Report, write_report
from numa_bench.analysis.stats.compare.studies import compare_studies
from numa_bench.analysis.study_analysis import Analysis, analyse_study
from numa_bench.config.schemas.workload import ViTConfig
from numa_bench.machine.model import Topology
from numa_bench.records import Status
from tests.fake_pipeline import Machine
from tests.fake_scenarios import HOSTILE, desktop, experiment, models, one_gpu, server8
from tests.fake_study import Scenario, again, write_study
from tests.machines import laptop, with_memory_only_node

#: What the environment of a simulated machine says of itself.
SIMULATED = "a simulated machine, its times are made up"
#: Two models under one name, and one of timm.
CUSTOM = tuple(
    ViTConfig(_target_="pkg.make_net", name="net", args={"width": width}, input_shape=[3, 224, 224])
    for width in (8, 16)
)
CUSTOM += (ViTConfig(timm="resnet18"),)
TWO = ((32, 0, 512), (32, 6, 512))


def scenario(
    name: str, topology: Topology, vits: list[ViTConfig], repeats: int = 4, **kw: Any
) -> Scenario:
    """A study of these models on this machine."""
    return Scenario(Machine(topology, 0.2), experiment(name, vits, repeats, **kw))


def _server8() -> list[Scenario]:
    bad = {7: Status.FAILED, 44: Status.TIMEOUT, 45: Status.INVALID}
    warned = {12: "throttled: power cap (in up to 3 readings)", 60: "spread: spans 14%"}
    study = scenario("numa_study", server8(), models(*TWO), 3)
    return [replace(study, bad=bad, warned=warned)]


def _one_gpu() -> list[Scenario]:
    words = ["local", "remote", "unbound"]
    return [scenario("numa_study", one_gpu(), models(*TWO), numa_nodes=words)]


def _cpu_nodes() -> list[Scenario]:
    topology = replace(with_memory_only_node(), gpus=())
    return [scenario("cpu_study", topology, models((32, 2, 128)), 3)]


def _compile() -> list[Scenario]:
    vits = models((32, 6, 512))
    for mode in ("default", "reduce-overhead", "max-autotune"):
        vits += models((32, 6, 512), compile_model=True, compile_mode=mode)
    return [scenario("compile_study", one_gpu(), vits, numa_nodes="local")]


def _scaling() -> list[Scenario]:
    sizes = [(32, d, 256) for d in (1, 2, 8, 12)] + [(32, 8, w) for w in (512, 1024)]
    return [scenario("scaling_study", one_gpu(), models(*sizes), 3)]


def _setting(name: str, key: str, values: tuple[int, ...]) -> Scenario:
    vits = [ViTConfig(depth=4, dim=256, **{key: v}) for v in values]  # type: ignore[arg-type]
    return scenario(name, one_gpu(), vits, 2)


def _hostile() -> list[Scenario]:
    study = scenario("hostile", one_gpu(), models((32, 2, 128), name=HOSTILE), 3)
    texts = {"error": HOSTILE, "host": HOSTILE, "gpu_name": HOSTILE, "stderr_log": "../../x"}
    return [replace(study, texts=texts, warned={1: f"spread: {HOSTILE}"})]


def _before_after() -> list[Scenario]:
    before = scenario("before_after", one_gpu(), models(*TWO), 5)
    machine = replace(before.machine, speedup=0.9)
    return [before, again(before, machine=machine, changes={"nvidia_driver": "555.42.02"})]


KINDS: dict[str, Callable[[], list[Scenario]]] = {
    "server8": _server8,
    "one_gpu": _one_gpu,
    "cpu_nodes": _cpu_nodes,
    "laptop": lambda: [scenario("laptop_study", laptop(), models((32, 0, 0), (32, 2, 128)), 3)],
    "one_cell": lambda: [scenario("one_cell", desktop(), models((32, 6, 512)), 5)],
    "one_repeat": lambda: [scenario("one_repeat", one_gpu(), models(*TWO), 1)],
    "nothing_passed": lambda: [
        replace(
            scenario("nothing", desktop(), models((32, 6, 512)), 2),
            bad={0: Status.FAILED, 1: Status.TIMEOUT},
        )
    ],
    "compile": _compile,
    "scaling": _scaling,
    "settings": lambda: [
        _setting("batch_study", "batch_size", (4, 32)),
        _setting("resolution_study", "image_size", (256, 1024)),
        _setting("pipeline_study", "pipeline_depth", (1, 4)),
    ],
    "simulated": lambda: [replace(study, changes={"simulated": SIMULATED}) for study in _one_gpu()],
    "hostile": _hostile,
    "before_after": _before_after,
    "custom": lambda: [scenario("custom", one_gpu(), [*models(*TWO), *CUSTOM], 4)],
    "only_custom": lambda: [scenario("only_custom", one_gpu(), list(CUSTOM), 4)],
}


_ROOT = tempfile.TemporaryDirectory(prefix="analyses-")


@functools.cache
def analysed(kind: str) -> Analysis:
    """The studies of a kind, written and analysed as the app does; made once for all tests."""
    root = Path(_ROOT.name) / kind
    for study in KINDS[kind]():
        write_study(root, study)
    comparison = None
    loaded = load_studies(root)
    if kind == "before_after":
        before, after = sorted(root.rglob("results.json"))
        loaded = load_studies([after])
        comparison = compare_studies(
            load_studies([before]).frame, loaded.frame, fail_on_regression=0.03
        )
    profiles = _profiles(loaded.frame) if kind == "one_gpu" else pd.DataFrame()
    return analyse_study(
        kind,
        loaded,
        profiles=profiles,
        target=0.02,
        seed=0,
        created="2026-01-31T15:00:00+00:00",
        command=f"analyze.py experiment_name={kind}",
        comparison=comparison,
        versions={"python": "3.11.9", "numpy": "1.26.4"},
    )


@functools.cache
def reported(kind: str, pictures: bool = False) -> Report:
    """The report of a kind, written once; without pictures unless they are asked for."""
    directory = Path(_ROOT.name) / "analysis" / f"{kind}-{pictures}"
    if pictures:
        return write_report(analysed(kind), directory)
    with mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())):
        return write_report(analysed(kind), directory)


def _profiles(frame: pd.DataFrame) -> pd.DataFrame:
    """Made-up profiler results of each run."""
    names = ["run_id", "study_dir", "device_text", "model_text", "placement", "repeat"]
    far = (frame["placement"] != "local").astype(float)
    table: pd.DataFrame = frame[names].assign(
        window="profiled window", overlap_fraction=0.9 - 0.1 * far,
        gpu_idle_fraction=0.05 + 0.1 * far, exposed_copy_ms=1.0 + far, gap_p95_us=12.0,
        launch_latency_p50_us=6.0, kernels=120,
        profiler_overhead=0.02, problem=None,
    )  # fmt: skip
    return table
