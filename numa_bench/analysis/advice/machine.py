"""The measured machine of a group of runs: its topology and the GPUs that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from numa_bench.analysis.advice.targets import find_home
from numa_bench.analysis.read.runs import Loaded
from numa_bench.machine.model import Gpu, Topology


@dataclass(frozen=True)
class Machine:
    """The runs of a group, and the machine they ran on."""

    runs: pd.DataFrame
    topology: Topology
    gpus: tuple[Gpu, ...]

    @property
    def known_gpus(self) -> list[Gpu]:
        return [gpu for gpu in self.gpus if find_home(self.topology, gpu) is not None]

    @property
    def unknown(self) -> list[int]:
        return [gpu.index for gpu in self.gpus if find_home(self.topology, gpu) is None]


def read_machine(runs: pd.DataFrame, loaded: Loaded) -> Machine:
    """The machine of one group of runs. Raises ValueError where no study has its topology."""
    topology = _read_topology(runs, loaded)
    gpus = _select_gpus(runs, topology)
    if not gpus and runs["device"].iloc[0] == "cuda":
        raise ValueError("topology.json lists none of the GPUs that were measured")
    return Machine(runs, topology, gpus)


def name_machine(runs: pd.DataFrame) -> str:
    """Host and GPU model of a group of runs, on one line."""
    first = runs.iloc[0]
    names = [first["host"], *([] if pd.isna(first["gpu_name"]) else [first["gpu_name"]])]
    return ", ".join(" ".join(str(name).split()) for name in names)


def _read_topology(runs: pd.DataFrame, loaded: Loaded) -> Topology:
    """The machine of the newest study of a group. Raises ValueError where no study has it."""
    mine = set(runs["study_dir"])
    studies = [s for s in loaded.studies if s.directory in mine and s.topology is not None]
    if not studies:
        raise ValueError("topology.json of the study is missing or cannot be read")
    newest = max(studies, key=lambda s: s.started or "")
    topology = Topology.from_dict(newest.topology or {})
    if not topology.cpu_nodes or not topology.memory_nodes:
        raise ValueError("topology.json lists no node with CPUs, or none with memory")
    return topology


def _select_gpus(runs: pd.DataFrame, topology: Topology) -> tuple[Gpu, ...]:
    """The GPUs that were measured, those of sets of workers included; () on the CPU."""
    if runs["device"].iloc[0] != "cuda":
        return ()
    measured = {gpu for ids in runs["gpu_ids"] for gpu in ids}
    measured |= {
        worker["gpu_id"]
        for some in runs["workers"]
        for worker in some or ()
        if worker["gpu_id"] is not None
    }
    return tuple(gpu for gpu in topology.gpus if gpu.index in measured)


def explain_unknown(gpus: Sequence[int]) -> str:
    """Why GPUs have no binding."""
    names = ", ".join(map(str, gpus))
    one = len(gpus) == 1
    return (
        f"neither kernel nor driver says which node GPU{'' if one else 's'} {names} "
        f"{'is' if one else 'are'} attached to (numa_node -1), so no node can be called local; "
        "firmware and virtual machines report it to the kernel (docs/gpu-hosts.md)"
    )
