"""The experiment runner's Hydra application: compose, validate, discover, plan, check, run."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from numa_bench.config import hydra_app
from numa_bench.config.launchers import remember_visible_devices, restore_visible_devices
from numa_bench.config.loading import (
    discover_allocation,
    discover_machine,
    load_config,
    save_resolved,
)
from numa_bench.config.model_validation import check_importable
from numa_bench.config.overrides import find_touched_models, rewrite_command_line
from numa_bench.config.schema import RunnerConfig
from numa_bench.isolation.host_locks import hold_start_up
from numa_bench.machine.model import Topology
from numa_bench.plan.devices import refuse_mig_slices
from numa_bench.plan.plan import Plan, build_plan
from numa_bench.profiling.launch import check_cuda_recording, find_profiler
from numa_bench.records import list_processes
from numa_bench.runner.command import gpu_environment
from numa_bench.runner.gpu_check import check_gpus
from numa_bench.runner.numactl import check_binding
from numa_bench.runner.resume import check_directory


@hydra.main(version_base="1.3", config_path=str(hydra_app.CONFIG_DIR), config_name="config")
def app(node: DictConfig) -> None:
    """Run one Hydra job and report its error, if any, in one line."""
    hydra_app.guard_job(lambda: run(node))


def run(node: DictConfig) -> None:
    """Compose, validate, discover, plan, check the machine, run."""
    settings = HydraConfig.get()
    restore_visible_devices(os.environ, settings.launcher)
    overrides = list(settings.overrides.task)
    config = load_config(node, overrides)
    directory = Path(settings.runtime.output_dir)
    with ExitStack() as start_up:
        if not config.dry_run:  # which is light, and answers at once
            # Other jobs may be measuring.
            start_up.enter_context(hold_start_up(config.isolation, _print_wait))
        prepared = _prepare(config, overrides, directory)
        if prepared is None:
            return
        # Imported late: --cfg job and configuration errors do not need it.
        from numa_bench.runner.study import run_study

        plan, topology = prepared
        run_study(
            plan,
            topology,
            directory,
            opened=lambda: save_resolved(config, directory),
            started=start_up.close,
        )


def _print_wait(text: str) -> None:
    if text:
        print(f"start-up {text}", file=sys.stderr)


def _prepare(
    config: RunnerConfig, overrides: list[str], directory: Path
) -> tuple[Plan, Topology] | None:
    """A plan that this machine can run; None for a dry run, which is printed instead."""
    topology, visible = discover_machine(config.topology_root)
    allocation = discover_allocation(config.topology_root, topology)
    here = config.topology_root is None
    if here:
        refuse_mig_slices(config.experiment.hardware, os.environ.get("CUDA_VISIBLE_DEVICES"))
    profiler = find_profiler(config.profiler, probe=not config.dry_run)
    touched = find_touched_models(overrides)
    plan = build_plan(config, topology, visible, touched, profiler, allocation)
    # What is waived is recorded, and neither tried nor checked.
    runs = [run for run in plan.runs if run.waived is None]
    if here:
        check_importable(config.experiment.vit_configs)
        check_binding(run.placement for run in list_processes(runs))
    # Imported late: --cfg job and configuration errors do not need them.
    from numa_bench.runner.conditions import check_conditions
    from numa_bench.runner.display.console import print_matrix

    if plan.dry_run:
        conditions = check_conditions(runs, topology) if here else []
        print_matrix(plan, [*plan.warnings, *plan.blind_spots, *conditions])
        return None
    check_directory(directory, plan, overrides)
    check_gpus(run.device for run in list_processes(runs))
    recorded = (run for run in runs if not run.members)  # sets are not profiled
    gpu = next((run.device for run in recorded if run.device.kind == "cuda"), None)
    if gpu is not None:
        checked = check_cuda_recording(plan.profiler, gpu_environment(gpu, os.environ))
        if checked is not plan.profiler:
            plan = build_plan(config, topology, visible, touched, checked, allocation)
    return plan, topology


def main() -> int:
    """Run the application on this process's command line; return its exit code."""
    hydra_app.register_hydra()
    remember_visible_devices(os.environ)
    rewrite_command_line(sys.argv, os.environ)
    return hydra_app.run_app(app)
