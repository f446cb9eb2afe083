"""Turn Hydra's config node into a validated configuration, and discover the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from numa_bench.config.hydra.composition import compose_sweep_job
from numa_bench.config.hydra.overrides import find_touched_models
from numa_bench.config.jobs import StudyJob, check_interleaved
from numa_bench.config.schema import RunnerConfig
from numa_bench.config.settings import to_typed_config
from numa_bench.config.validation import validate_config
from numa_bench.errors import ConfigError, MachineError, StoreError
from numa_bench.jsonio import write_text
from numa_bench.machine.allocation import Allocation, read_allocation, select_granted_gpus
from numa_bench.machine.model import Gpu, Topology
from numa_bench.machine.topology import discover_topology, read_topology
from numa_bench.records import COMMAND
from numa_bench.study_files import OVERRIDES, RESOLVED_CONFIG, RESOLVED_JOBS, RESULTS
from numa_bench.study_search import read_resolved_jobs, read_yaml

#: PCI vendor of GPUs that CUDA runs on (pci-ids.ucw.cz).
NVIDIA = "0x10de"


def load_config(node: DictConfig, overrides: Sequence[str]) -> RunnerConfig:
    """The validated configuration. Raises ConfigError, or an OmegaConf error for a wrong type.

    With resume_from, this is the configuration saved in that study, with `overrides` applied.
    """
    return load_jobs(node, overrides)[0].config


def load_jobs(node: DictConfig, overrides: Sequence[str]) -> list[StudyJob]:
    """The jobs whose runs a study has: one, or those of an interleaved sweep that is resumed.

    Raises as `load_config` does, StoreError for saved jobs that cannot be read.
    """
    touched = find_touched_models(overrides)
    if not node.resume_from:
        return [StudyJob(_to_config(node, overrides), touched)]
    directory = Path(node.resume_from)
    stored = read_resolved_jobs(directory)
    if not stored:
        return [StudyJob(_to_config(_resumed(directory, overrides, node), overrides), touched)]
    jobs = []
    for job in stored:
        resumed = _resumed(directory, overrides, node, job["experiment"])
        config = _to_config(resumed, overrides)
        jobs.append(StudyJob(config, touched, tuple(map(str, job["overrides"]))))
    check_interleaved([replace(job.config, resume_from=None) for job in jobs])
    return jobs


def _to_config(node: DictConfig, overrides: Sequence[str]) -> RunnerConfig:
    config = to_typed_config(node, overrides)
    assert isinstance(config, RunnerConfig)
    _place_command(config)
    validate_config(config)
    return config


def _place_command(config: RunnerConfig) -> None:
    """Move the command of the top level to where a study keeps it. Raises ConfigError."""
    if config.command is None:
        return
    if config.experiment.workload != COMMAND:
        raise ConfigError("command", config.command, "needs experiment=command_study; add it")
    config.experiment.command.argv, config.command = config.command, None


def save_resolved(config: RunnerConfig, directory: Path) -> None:
    """Save the configuration with all interpolations resolved, for resuming.

    The file is complete at every instant: a study without it cannot be resumed. Raises StoreError
    when it cannot be written.
    """
    # Resuming sets it anew, and a path may hold what OmegaConf takes for an interpolation.
    config = replace(config, resume_from=None)
    values = OmegaConf.to_container(OmegaConf.structured(config), resolve=False)
    _save_text(directory / RESOLVED_CONFIG, OmegaConf.to_yaml(OmegaConf.create(_escape(values))))


def save_jobs(jobs: Sequence[StudyJob], typed: Sequence[str], directory: Path) -> None:
    """Save the settings of a study; of an interleaved sweep those of each job.

    `typed` are the overrides of the command line, which replace those of the first job in Hydra's
    snapshot. Raises StoreError when a file cannot be written.
    """
    import yaml  # late: a single study does not need it

    if len(jobs) > 1:
        stored = [
            {
                "overrides": list(job.overrides),
                "experiment": _escape(
                    OmegaConf.to_container(
                        OmegaConf.structured(job.config.experiment), resolve=False
                    )
                ),
            }
            for job in jobs
        ]
        _save_text(directory / RESOLVED_JOBS, yaml.safe_dump(stored, sort_keys=False))
        if typed:
            _save_text(directory / OVERRIDES, yaml.safe_dump(list(typed)))
    # Last: with it the study can be resumed, with all of its jobs.
    save_resolved(jobs[0].config, directory)


def _save_text(path: Path, text: str) -> None:
    """Write a file unless it has this text. Raises StoreError."""
    text = text.rstrip("\n")
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text + "\n":
        try:
            write_text(path, text)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error}; free some space") from error


def _escape(value: Any) -> Any:
    """The same settings with texts that OmegaConf reads back as they are, ${...} included."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)


def discover_machine(root: str | None) -> tuple[Topology, tuple[Gpu, ...]]:
    """The machine's topology and the GPUs that this process may use.

    `root` is a captured sysfs tree to use instead of this machine. Only its NVIDIA display
    devices count as GPUs, because torch cannot use the others (a server's VGA). Raises
    ConfigError if the tree cannot be used.
    """
    if root is not None:
        try:
            topology = read_topology(Path(root))
        except MachineError as error:
            raise ConfigError("topology_root", root, str(error)) from error
        nvidia = [gpu for gpu in topology.gpus if gpu.vendor == NVIDIA]
        gpus = tuple(replace(gpu, index=index) for index, gpu in enumerate(nvidia))
        return replace(topology, gpus=gpus), gpus
    topology = discover_topology()
    return topology, select_granted_gpus(topology, os.environ)[0]


def discover_allocation(root: str | None, topology: Topology) -> Allocation:
    """What this process was granted of its machine; everything of a captured tree (`root`)."""
    return Allocation() if root is not None else read_allocation(topology)


def _resumed(
    directory: Path,
    overrides: Sequence[str],
    composed: DictConfig,
    experiment: dict[str, Any] | None = None,
) -> DictConfig:
    """The saved configuration with the overrides of this start; `composed` is without the saved.

    `experiment` are the settings of one job of an interleaved sweep, in place of those saved.
    """
    node = _saved_config(directory, experiment)
    # Hydra applied them to the default configuration; here they apply to the saved one.
    name, debug = node.experiment.name, node.debug
    parsed: list[Any] = OverridesParser.create().parse_overrides(list(overrides))
    for override in parsed:
        key = override.key_or_group
        if key in ("experiment", "output"):
            raise ConfigError(
                key,
                override.value(),
                "a resumed study keeps its own; remove this, or start a new study",
            )
        if key in ("profiler", "tracking"):  # a file of conf/
            OmegaConf.update(node, key, composed[key], merge=False)
        elif not key.startswith("hydra"):
            OmegaConf.update(node, key, override.value())
    if node.experiment.name != name:
        raise ConfigError(
            "experiment.name", node.experiment.name, f"a resumed study keeps its name, {name}"
        )
    if node.debug != debug:
        made = "with" if debug else "without"
        raise ConfigError(
            "debug", node.debug, f"the resumed study was made {made} debug=true; remove this"
        )
    return node


def _saved_config(directory: Path, experiment: dict[str, Any] | None) -> DictConfig:
    """The configuration of a study, or that of a job of a sweep which has not started."""
    saved = directory / RESOLVED_CONFIG
    if not saved.is_file():
        job = compose_sweep_job(directory) if not (directory / RESULTS).is_file() else None
        if job is None:
            raise StoreError(f"{directory} cannot be resumed: it has no {RESOLVED_CONFIG}")
        return job
    values = read_yaml(saved)
    if not isinstance(values, dict):
        raise StoreError(f"{saved} cannot be read: it holds no settings; restore it")
    if experiment is not None:
        values = {**values, "experiment": experiment}
    # The file has values without types; merging them into the schema checks them again.
    try:
        node = OmegaConf.merge(OmegaConf.structured(RunnerConfig), values)
    except OmegaConfBaseException as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{saved} cannot be used: {reason}; restore it") from error
    assert isinstance(node, DictConfig)
    return node
