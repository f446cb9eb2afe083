"""From the spec of a command run to what is started: arguments, environment. Pure.

Also whether its programs exist, which is looked up before the first run.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from numa_bench.errors import ConfigError, MachineError
from numa_bench.machine.sysfs import format_cpu_list
from numa_bench.records import RUN_TOKEN, CommandSpec, RunSpec
from numa_bench.runner.numactl import numactl_argv
from numa_bench.runner.process import Command

SHELL = "/bin/sh"
#: Variables that config/hydra/app sets for the runner itself.
RUNNERS_OWN = ("HYDRA_FULL_ERROR", "NUMA_BENCH_OWN_ERRORS")
#: As numactl's own start takes about a millisecond, runs without a binding start it too: bound to
#: all CPUs that it may use, which changes nothing.
_BIND_NOTHING = ("--physcpubind=all",)


def build_command(spec: RunSpec, out: Path, environ: Mapping[str, str], token: str) -> Command:
    """The measured command of a run: numactl, then the program as it was given.

    `out` is the directory for {out}.
    """
    assert spec.command is not None
    argv = substitute(spec.command.argv, spec, out)
    if spec.command.shell:
        argv = (SHELL, "-c", *argv)
    return Command((*bind_argv(spec), *argv), command_environment(spec, environ, token), token)


def build_step(
    argv: Sequence[str], spec: RunSpec, out: Path, environ: Mapping[str, str], token: str
) -> Command:
    """A command before or after the measured one. It is not bound."""
    env = command_environment(spec, environ, token)
    return Command(substitute(argv, spec, out), env, token)


def bind_argv(spec: RunSpec) -> list[str]:
    """numactl as planned, or without effect; empty where there is none and nothing is bound."""
    argv = numactl_argv(spec.placement)
    if argv or shutil.which("numactl") is None:
        return argv
    return ["numactl", *_BIND_NOTHING]


def substitute(argv: Sequence[str], spec: RunSpec, out: Path) -> tuple[str, ...]:
    """Arguments with the placeholders of docs/own-workloads.md filled in; other braces are kept.

    {node} is the number of the CPU node, or the list of memory nodes where only these are bound.
    {gpus} and {nodes} are the numbers of all GPUs of the run and the node of each, with commas; a
    node that is unknown is -1. What a run does not have becomes an empty text.
    """
    device, placement = spec.device, spec.placement
    node = placement.numa_node
    homes = [-1 if gpu.gpu_numa_node is None else gpu.gpu_numa_node for gpu in device.gpus]
    values = {
        "gpu": "" if device.gpu_id is None else str(device.gpu_id),
        "gpus": ",".join(map(str, device.gpu_ids)),
        "gpu_uuid": device.gpu_uuid or "",
        "node": format_cpu_list(placement.memory_nodes) if node is None else str(node),
        "nodes": ",".join(map(str, homes)),
        "out": str(out),
    }
    pattern = re.compile("|".join(rf"\{{{name}\}}" for name in values))
    return tuple(pattern.sub(lambda found: values[found[0][1:-1]], text) for text in argv)


def command_environment(spec: RunSpec, environ: Mapping[str, str], token: str) -> dict[str, str]:
    """The caller's environment with the run's token, and with its GPUs alone if it has any."""
    env = {name: value for name, value in environ.items() if name not in RUNNERS_OWN}
    env[RUN_TOKEN] = token
    if spec.device.kind == "cuda":
        # The UUID is the one name that does not depend on CUDA_DEVICE_ORDER.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        names = [gpu.gpu_uuid or str(gpu.gpu_id) for gpu in spec.device.gpus]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    return env


def check_programs(runs: Iterable[RunSpec]) -> None:
    """Raise ConfigError or MachineError unless the programs of these runs can be started here."""
    for command in dict.fromkeys(run.command for run in runs if run.command is not None):
        directory = command.directory
        if directory is not None and not Path(directory).is_dir():
            raise ConfigError("experiment.command.directory", directory, "is no directory")
        for name in ("argv", "prepare", "cleanup", "check"):
            argv: tuple[str, ...] = getattr(command, name)
            if argv:
                program = SHELL if name == "argv" and command.shell else argv[0]
                _check_program(f"experiment.command.{name}", program, command)


def _check_program(key: str, program: str, command: CommandSpec) -> None:
    base = Path(command.directory or ".")
    if "{" in program:
        return  # known when it runs
    if os.sep not in program:
        if shutil.which(program) is None:
            hint = "; a shell's words need shell=true" if key.endswith("argv") else ""
            raise ConfigError(key, program, f"command not found; check its name and PATH{hint}")
        return
    path = base / program
    if not path.exists():
        raise ConfigError(key, program, "no such file; check its path")
    if path.is_dir():
        raise ConfigError(key, program, "is a directory; name a program in it")
    if not os.access(path, os.X_OK):
        raise MachineError(
            f"{key}={program}: not executable; use chmod +x, or name its interpreter"
        )
