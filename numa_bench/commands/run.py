"""The experiment runner's Hydra application: compose, validate, discover, plan, check, run."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from numa_bench.commands.resumed_sweep import (
    expand_arguments,
    find_resumed,
    list_unfinished_jobs,
)
from numa_bench.config.error_text import format_error
from numa_bench.config.hydra import app as hydra_app
from numa_bench.config.hydra.guard import exit_code_of, is_for_the_user
from numa_bench.config.hydra.launchers import remember_visible_devices, restore_visible_devices
from numa_bench.config.hydra.overrides import check_options, rewrite_command_line
from numa_bench.config.jobs import StudyJob, refuse_single
from numa_bench.config.loading import (
    discover_allocation,
    discover_machine,
    load_jobs,
    save_jobs,
)
from numa_bench.config.model_validation import check_importable
from numa_bench.config.schema import RunnerConfig
from numa_bench.config.settings import CONFIG_DIR
from numa_bench.errors import describe_exception
from numa_bench.isolation.host_locks import hold_start_up, print_wait
from numa_bench.machine.allocation import Allocation
from numa_bench.machine.model import Gpu, Topology
from numa_bench.plan.devices import refuse_mig_slices
from numa_bench.plan.plan import Plan, build_joint_plan
from numa_bench.profiling.launch import Profiler, check_cuda_recording, find_profiler
from numa_bench.records import RunSpec, list_processes
from numa_bench.runner.command import gpu_environment
from numa_bench.runner.gpu_check import check_gpus
from numa_bench.runner.numactl import check_binding
from numa_bench.runner.programs.command_line import check_programs
from numa_bench.runner.resume import check_directory, read_stored
from numa_bench.sweep.interleaving import (
    InterleavedStart,
    enter_interleaved,
    run_interleaved,
)
from numa_bench.sweep.job_process import JobTask
from numa_bench.sweep.launcher import replace_launchers
from numa_bench.sweep.preparation import close_sweep, note_current, refresh_summary

#: Options of Hydra that show something and run nothing.
_SHOWING = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version")


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="config")
def app(node: DictConfig) -> None:
    """Run one Hydra job and report its error, if any, in one line."""
    hydra_app.guard_job(lambda: run(node))


def run(node: DictConfig) -> None:
    """Compose, validate, discover, plan, check the machine, run."""
    settings = HydraConfig.get()
    restore_visible_devices(os.environ, settings.launcher)
    # Unresolved: a path in a value may hold what OmegaConf takes for an interpolation.
    overrides = read_task_overrides(settings)
    jobs, typed = load_study_jobs(node, overrides)
    config = jobs[0].config
    directory = Path(config.resume_from or settings.runtime.output_dir).absolute()
    with ExitStack() as start_up:
        if not config.dry_run:  # which is light, and answers at once
            # Other jobs may be measuring.
            start_up.enter_context(
                hold_start_up(config.isolation, partial(print_wait, what="start-up"))
            )
        prepared = _prepare(jobs, overrides, directory)
        if prepared is None:
            return
        # Imported late: --cfg job and configuration errors do not need it.
        from numa_bench.runner.study import run_study

        plan, topology = prepared
        try:
            run_study(
                plan,
                topology,
                directory,
                opened=lambda: save_jobs(jobs, typed, directory),
                started=start_up.close,
            )
        finally:
            if config.resume_from and settings.mode is RunMode.RUN:  # perhaps a job of a sweep
                refresh_summary(directory)


def load_study_jobs(
    node: DictConfig, overrides: Sequence[str]
) -> tuple[Sequence[StudyJob], tuple[str, ...]]:
    """The jobs whose runs the study of this Hydra job has, and the overrides of the command line.

    The latter only where the jobs are those of an interleaved sweep that starts now. Raises as
    `load_jobs` does.
    """
    sweep = enter_interleaved()
    if sweep is not None:
        return sweep.jobs, sweep.typed
    jobs = load_jobs(node, overrides)
    if len(jobs) == 1:
        refuse_single(jobs[0].config)
    return jobs, ()


def _prepare(
    jobs: Sequence[StudyJob], overrides: list[str], directory: Path
) -> tuple[Plan, Topology] | None:
    """A plan that this machine can run; None for a dry run, which is printed instead."""
    config = jobs[0].config
    topology, visible = discover_machine(config.topology_root)
    allocation = discover_allocation(config.topology_root, topology)
    profiler = find_profiler(config.profiler, probe=not config.dry_run)
    plan = plan_study(jobs, topology, visible, profiler, allocation)
    here = config.topology_root is None
    for check in list_machine_checks(jobs, plan, topology) if here else ():
        check()
    check_directory(directory, plan, overrides)
    # Imported late: --cfg job and configuration errors do not need them.
    from numa_bench.runner.conditions import check_conditions
    from numa_bench.runner.display.left import find_left, print_plan

    if plan.dry_run:
        stored = read_stored(directory, plan)
        left = find_left(plan, stored or ())
        conditions = check_conditions(list_granted(left), topology) if here else []
        warnings = [*plan.warnings, *plan.blind_spots, *conditions] if left else []
        print_plan(plan, stored, warnings)
        return None
    check_planned_gpus(plan.runs)
    checked = check_recording(plan)
    if checked is not plan.profiler:
        plan = plan_study(jobs, topology, visible, checked, allocation)
    return plan, topology


def read_task_overrides(settings: HydraConf | DictConfig) -> list[str]:
    """The overrides of a job as they were typed; `settings` is Hydra's node."""
    overrides = OmegaConf.to_container(settings.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def plan_study(
    jobs: Sequence[StudyJob],
    topology: Topology,
    visible: tuple[Gpu, ...],
    profiler: Profiler,
    allocation: Allocation,
) -> Plan:
    """The plan of a study on a machine. Raises ConfigError or MachineError."""
    for job in jobs:
        if job.config.topology_root is None and topology.source == "live":
            refuse_mig_slices(
                job.config.experiment.hardware, os.environ.get("CUDA_VISIBLE_DEVICES")
            )
    return build_joint_plan(jobs, topology, visible, profiler, allocation)


def list_machine_checks(
    jobs: Sequence[StudyJob], plan: Plan, topology: Topology
) -> list[Callable[[], None]]:
    """What must hold on this machine before the first run; each raises an error if it does not.

    All are quick. That the GPUs can be used, which takes seconds, comes after them.
    """
    # Imported late: --cfg job and configuration errors do not need it.
    from numa_bench.runner.conditions import refuse_excess

    return [
        *(partial(check_importable, job.config.experiment.vit_configs) for job in jobs),
        partial(check_programs, list_granted(plan.runs)),
        lambda: check_binding(run.placement for run in list_processes(list_granted(plan.runs))),
        lambda: refuse_excess(list_granted(plan.cells), topology),
    ]


def check_planned_gpus(runs: Iterable[RunSpec]) -> None:
    """Raise MachineError unless every GPU of these runs can be used."""
    check_gpus(run.device for run in list_processes(list_granted(runs)))


def list_granted(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """Without waived runs, which are recorded, and neither tried nor checked."""
    return [run for run in runs if run.waived is None]


def check_recording(plan: Plan) -> Profiler:
    """The profiler of a plan, or none with a note if it cannot record on the plan's GPUs.

    Raises MachineError if it was asked for by name.
    """
    recorded = (run for run in list_granted(plan.runs) if not run.members)  # sets are not profiled
    gpu = next((run.device for run in recorded if run.device.kind == "cuda"), None)
    if gpu is None:
        return plan.profiler
    return check_cuda_recording(plan.profiler, gpu_environment(gpu, os.environ))


def run_sweep_job(task: JobTask) -> tuple[int, str | None]:
    """Run one job of a sweep in this process; its exit code, and its error in one line."""
    sys.argv[:] = task.argv
    JobRuntime.instance().set("name", task.config.hydra.job.name)
    launcher = BasicLauncher()
    launcher.setup(
        hydra_context=task.hydra_context, task_function=app.__wrapped__, config=task.config
    )
    (result,) = launcher.launch([task.overrides], task.number)
    if result.status is JobStatus.COMPLETED:
        return 0, None
    error = result._return_value  # result.return_value raises it
    if is_for_the_user(error):
        return exit_code_of(error), format_error(error, RunnerConfig)
    traceback.print_exception(error)
    return 1, f"{describe_exception(error)}; its traceback is in the job's log"


def start() -> None:
    """Start Hydra; a sweep's folder in resume_from is resumed as a sweep over its jobs."""
    arguments = sys.argv[1:]
    check_options(arguments)
    sweep = find_resumed(arguments)
    shows = any(argument.partition("=")[0] in _SHOWING for argument in arguments)
    if sweep is not None and not shows:
        jobs = list_unfinished_jobs(sweep, arguments)
        if not jobs:
            print(f"nothing left: all jobs of {sweep} are finished")
            return
        sys.argv[1:] = expand_arguments(arguments, sweep, jobs, datetime.now())
    with replace_launchers():
        try:
            app()
        except InterleavedStart as found:
            run_interleaved(found.sweep, app)


def main() -> int:
    """Run the application on this process's command line; return its exit code."""
    hydra_app.register_hydra()
    remember_visible_devices(os.environ)
    rewrite_command_line(sys.argv, os.environ)
    note_current(None)
    return close_sweep(hydra_app.run_app(start))
