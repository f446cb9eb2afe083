"""What is started for a command run, and what is refused before the first one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.errors import ConfigError, MachineError
from numa_bench.records import COMMAND, CommandSpec, DeviceSpec, Placement, RunSpec
from numa_bench.runner.programs.command_line import build_command, build_step, check_programs
from tests.specs import UNBOUND, make_spec

LOCAL = Placement(1, (1,), "bind", "local", (4, 5))
GPU = DeviceSpec("cuda", 3, "H100", "GPU-abc", 1)


def command_spec(
    *argv: str, placement: Placement = UNBOUND, device: DeviceSpec | None = None, **command: object
) -> RunSpec:
    spec = make_spec(placement=placement)
    own = replace(CommandSpec(argv), **command)  # type: ignore[arg-type]
    return replace(spec, workload=COMMAND, command=own, device=device or spec.device)


def test_numactl_binds_the_program_itself() -> None:
    spec = command_spec("train", "--gpu={gpu}", "{gpu_uuid}", "{node}", placement=LOCAL, device=GPU)

    command = build_command(spec, Path("/o"), {"PATH": "/bin"}, "7-x")

    assert command.argv == (
        *("numactl", "--cpunodebind=1", "--membind=1"),
        *("train", "--gpu=3", "GPU-abc", "1"),
    )
    assert command.env["CUDA_VISIBLE_DEVICES"] == "GPU-abc"


def test_a_run_of_two_gpus_sees_both_in_order() -> None:
    both = replace(GPU, others=(DeviceSpec("cuda", 5, "H100", "GPU-def", 0),))
    spec = command_spec("serve", "--tp={gpus}", "{nodes}", "{gpu}", device=both)

    command = build_command(spec, Path("/o"), {"CUDA_VISIBLE_DEVICES": "7"}, "7-x")

    assert command.argv[-4:] == ("serve", "--tp=3,5", "1,0", "3")
    assert command.env["CUDA_VISIBLE_DEVICES"] == "GPU-abc,GPU-def"


def test_without_a_gpu_the_words_for_it_are_empty() -> None:
    command = build_command(command_spec("x", "{gpu}{gpus}{nodes}"), Path("/o"), {}, "7-x")

    assert command.argv[-2:] == ("x", "")


def test_unbound_starts_numactl_too_without_effect() -> None:
    """It takes a millisecond to start, which would look like an effect on a short command."""
    command = build_command(command_spec("true"), Path("/o"), {}, "7-x")

    assert command.argv[-1] == "true"
    assert command.argv[:-1] in ((), ("numactl", "--physcpubind=all"))


def test_a_shell_gets_the_text_as_it_is() -> None:
    spec = command_spec("echo '{out}' {other} $HOME | wc", shell=True, placement=LOCAL)

    argv = build_command(spec, Path("/o"), {}, "7-x").argv

    assert argv[-3:] == ("/bin/sh", "-c", "echo '/o' {other} $HOME | wc")


def test_the_environment_is_the_callers_but_for_the_token() -> None:
    """Without a GPU in the plan the program may use what it would use anyway."""
    environ = {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "2", "HYDRA_FULL_ERROR": "1"}

    env = build_command(command_spec("true"), Path("/o"), environ, "7-x").env

    assert env == {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "2", "NUMA_BENCH_RUN": "7-x"}


def test_commands_around_it_are_not_bound() -> None:
    argv = build_step(
        ("sync", "{out}"), command_spec("x", placement=LOCAL), Path("/o"), {}, "t"
    ).argv

    assert argv == ("sync", "/o")


def test_a_program_that_is_missing_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("#!/bin/sh\n")
    cases: dict[tuple[str, ...], str] = {
        ("no-such-program",): "command not found",
        (str(tmp_path / "missing"),): "no such file",
        (str(tmp_path),): "is a directory",
        (str(tmp_path / "plain.txt"),): "not executable; use chmod",
    }
    for argv, words in cases.items():
        with pytest.raises((ConfigError, MachineError), match=words):
            check_programs([command_spec(*argv)])
    with pytest.raises(ConfigError, match=r"command\.prepare=no-such-program"):
        check_programs([command_spec("true", prepare=("no-such-program",))])
    with pytest.raises(ConfigError, match="is no directory"):
        check_programs([command_spec("true", directory=str(tmp_path / "missing"))])
    check_programs([command_spec("true"), command_spec("a | b", shell=True)])
