"""compare-placements: its options are settings, its command reaches the plan as it was typed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from numa_bench.commands.compare_placements import analysis_overrides, parse_arguments
from numa_bench.config.loading import load_config, save_resolved
from numa_bench.config.schema import RunnerConfig
from tests.conftest import Outcome
from tests.machines import server

Runner = Callable[..., Outcome]
Loads = Callable[..., RunnerConfig]
#: Arguments that a shell, Hydra's grammar or OmegaConf could take for something else.
ODD = (
    "a b",
    "it's",
    'say "x"',
    "${HOME}",
    r"\${x}",
    "[1,2]",
    "{a: 1}",
    "x=1",
    "-3",
    "null",
    "",
    "\\",
)


def overrides(*arguments: str) -> list[str]:
    return parse_arguments(arguments)[1]


def test_every_option_sets_what_it_says(runner: Runner) -> None:
    typed = overrides(
        *("--nodes", "local,unbound", "--gpus", "0,3", "--repeats", "7", "--warmup", "1"),
        *("--metric", "rate:higher:tok/s=([0-9.]+) tok/s", "--metric", "p99:lower:ms=p99 (.*)"),
        *("--name", "mine", "--prepare", "sync -f", "--placement-check", "warning"),
        *("--timeout", "30", "--set", "experiment.order_seed=4"),
        *("--", sys.executable, "-c", "print(1)"),
    )

    (planned,) = runner(*typed, machine=server()).studies

    command = planned.cells[0].command
    assert command is not None
    assert command.argv == (sys.executable, "-c", "print(1)")
    assert [(m.name, m.unit, m.regex) for m in command.metrics] == [
        ("rate", "tok/s", "([0-9.]+) tok/s"),
        ("p99", "ms", "p99 (.*)"),
    ]
    assert (command.warmup, command.prepare) == (1, ("sync", "-f"))
    assert command.placement_check == "warning"
    assert {cell.vit.name for cell in planned.cells} == {"mine"}
    assert {cell.device.gpu_id for cell in planned.cells} == {0, 3}
    assert {cell.placement.label for cell in planned.cells} == {"local", "unbound"}
    assert planned.runs[-1].repeat == 6
    assert planned.cells[0].test.timeout_s == 30
    assert planned.order_seed == 4


def test_the_command_is_an_argument_list_whatever_is_in_it(load: Loads) -> None:
    config = load(*overrides("--", "program", *ODD))

    assert config.experiment.command.argv == ["program", *ODD]


def test_a_resumed_study_has_the_same_command(load: Loads, tmp_path: Path) -> None:
    """Settings are saved as YAML, in which OmegaConf would read ${...} as an interpolation."""
    config = load(*overrides("--", "program", *ODD))
    save_resolved(config, tmp_path)

    node = OmegaConf.structured(RunnerConfig)
    node.resume_from = str(tmp_path)
    assert load_config(node, []).experiment.command.argv == ["program", *ODD]


def test_on_the_cpu_there_is_no_gpu(runner: Runner) -> None:
    (planned,) = runner(*overrides("--gpus", "cpu", "--", "sleep", "1"), machine=server()).studies

    assert {cell.device.kind for cell in planned.cells} == {"cpu"}


def test_a_text_for_the_shell_stays_one(load: Loads) -> None:
    config = load(*overrides("--shell", "--", "cat a | wc -l > $OUT"))

    assert config.experiment.command.shell
    assert config.experiment.command.argv == "cat a | wc -l > $OUT"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repeats", "3"), "no command; write it after --"),
        (("--repeats", "3", "--"), "no command; write it after --"),
        (("--shell", "--", "ls", "-l"), "the command is one text"),
        (("--node", "local", "extra", "--", "ls"), "unrecognized arguments"),
    ],
)
def test_a_command_line_without_a_command_is_refused(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--", "no-such-program"), "command not found"),
        (("--nodes", "near", "--", "ls"), "'near' is not valid here"),
        (("--metric", "rate", "--", "ls"), "write name:higher:unit=regex"),
        (("--gpus", "77", "--", "ls"), "no GPU 77"),
        (("--repeats", "0", "--", "ls"), "at least 1"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_before_anything_runs(
    runner: Runner, arguments: tuple[str, ...], words: str
) -> None:
    refused = runner(*overrides(*arguments), machine=server())

    assert (refused.code, refused.studies) == (2, [])
    assert words in refused.error


def test_the_analysis_is_of_the_new_study() -> None:
    assert analysis_overrides(Path("o/command_study/d/t"), Path("o")) == [
        "results=[o/command_study/d/t]",
        "root=o",
    ]
