"""The texts of a command study: how they are split, what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from numa_bench.config.command_parsing import (
    derive_name,
    make_command_specs,
    parse_argv,
    parse_metric,
)
from numa_bench.config.schema import RunnerConfig
from numa_bench.errors import ConfigError
from numa_bench.records import NamedMetric

STUDY = ("experiment=command_study", "command='sleep 1'")
Loads = Callable[..., RunnerConfig]


@pytest.mark.parametrize(
    ("value", "argv"),
    [
        ("python train.py --name 'a b'", ("python", "train.py", "--name", "a b")),
        (["python", "-c", "print(1)", 3], ("python", "-c", "print(1)", "3")),
        ("cat *.txt | wc", ("cat", "*.txt", "|", "wc")),  # no shell: nothing is expanded
        (None, ()),
    ],
)
def test_a_text_is_split_as_by_a_shell_and_a_list_is_kept(
    value: object, argv: tuple[str, ...]
) -> None:
    assert parse_argv("argv", value) == argv


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("echo 'open", "No closing quotation"),
        ("", "holds no program"),
        ([[1]], "use a text, or a list"),
        (True, "use a text, or a list"),
        (["echo", True], "quote words such as 'true'"),
        (["run", "--api-key=abcdef"], "looks like a secret"),
        ("env HF_TOKEN=abcdef run", "looks like a secret"),
        ("run --password abcdef", "looks like a secret"),
        ("curl http://me:word@host/", "user name or password"),
    ],
)
def test_what_cannot_be_a_command_is_refused(value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        parse_argv("argv", value)
    assert "abcdef" not in str(refused.value)
    assert "me:word" not in str(refused.value)


@pytest.mark.parametrize("argument", ["--max-tokens=256", "--tokenizer=gpt2", "--num_tokens=8"])
def test_numbers_of_tokens_are_no_secrets(argument: str) -> None:
    assert parse_argv("argv", ["run", argument]) == ("run", argument)


def test_a_metric_is_read_from_a_text() -> None:
    metric = parse_metric(r"tps:higher:tok/s=rate=([0-9.]+): ok")

    assert metric == NamedMetric("tps", "higher", "tok/s", r"rate=([0-9.]+): ok")


def test_a_metric_is_read_from_a_mapping() -> None:
    metric = parse_metric(
        {"name": "p99", "better": "lower", "unit": "ms", "json": "{out}/m.json", "key": "a.0"}
    )

    assert (metric.json, metric.key, metric.regex) == ("{out}/m.json", "a.0", None)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("rate", "write name:higher:unit=regex"),
        ("rate:up:s=x", "use one of higher, lower"),
        ("rate:higher:=x", "has no unit"),
        ("my rate:higher:s=x", "use letters, digits"),
        ("rate:higher:s=(", "is no regular expression"),
        ("rate:higher:s=(a)(b)", "one group at most"),
        ("rate:higher:s=", "one group at most"),
        ({"name": "rate", "better": "lower", "unit": "s"}, "give regex, or both json and key"),
        ({"name": "r", "better": "lower", "unit": "s", "json": "a"}, "give regex, or both"),
        ({"name": "rate", "unit": "s", "regex": "x"}, "better is missing"),
        ({"name": "rate", "better": "lower", "unit": "s", "regexp": "x"}, "unknown; use name"),
        (3, "write name:higher:unit=regex"),
    ],
)
def test_what_is_no_metric_is_refused(entry: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_metric(entry)


@pytest.mark.parametrize(
    ("argv", "shell", "name"),
    [
        (("python3.11", "a/train.py", "--steps", "2"), False, "train.py"),
        (("python", "-m", "pkg.bench"), False, "pkg.bench"),
        (("python", "-c", "print()"), False, "python-c"),
        (("torchrun", "--nproc=2", "ddp.py"), False, "ddp.py"),
        (("/usr/bin/sleep", "1"), False, "sleep"),
        (("cat a | wc",), True, "cat"),
        (("./@!",), False, "command"),
    ],
)
def test_a_command_is_named_after_its_program_or_script(
    argv: tuple[str, ...], shell: bool, name: str
) -> None:
    assert derive_name(argv, shell=shell) == name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("experiment=command_study",), "experiment.command.argv=null: give a command"),
        (("command='sleep 1'",), "command=sleep 1: needs experiment=command_study"),
        ((*STUDY, "experiment.command.warmup=-1"), "at least 0"),
        ((*STUDY, "experiment.command.sample_s=0.01"), "at least 0.1"),
        ((*STUDY, "experiment.command.least_fraction=0"), "a share above 0"),
        ((*STUDY, "experiment.command.placement_check=maybe"), "invalid, warning, off"),
        ((*STUDY, "experiment.command.name=../x"), "letters, digits"),
        ((*STUDY, "experiment.vit_configs=[{depth: 2}]"), "a command study runs no model"),
        ((*STUDY, "experiment.command.metrics=['a:lower:s=x','a:lower:s=y']"), "listed twice"),
        ((*STUDY, "experiment.command.variants={a: [x]}"), "two or more"),
        ((*STUDY, "experiment.command.variants={a: [x], b: x}"), "the same command"),
        ((*STUDY, "experiment.command.variants=[x]"), "give a mapping"),
        ((*STUDY, "experiment.command.variants={a: [x], b: {args: y}}"), "use argv and require"),
        (
            (*STUDY, "experiment.command.variants={a: x, b: y}", "experiment.command.name=c"),
            "variants have names",
        ),
        (
            ("experiment=command_study", "command=[ls,-l]", "experiment.command.shell=true"),
            "the command is one text",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    load: Loads, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(*overrides)
    assert words in str(refused.value)


def test_the_command_of_the_command_line_is_saved_with_the_study(load: Loads) -> None:
    """Resuming reads the saved configuration, which has it in one place."""
    config = load(*STUDY)

    assert (config.command, config.experiment.command.argv) == (None, "sleep 1")


def test_a_variant_may_require_something_of_its_own(load: Loads) -> None:
    variants = "{plain: [], bound: {argv: [--bind], require: 'run --has-bind'}}"

    config = load(
        *STUDY,
        f"experiment.command.variants={variants}",
        "experiment.command.require='run --version'",
    )

    specs = make_command_specs(config.experiment.command)
    assert specs["plain"].require == ("run", "--version")
    assert specs["bound"].require == ("run", "--has-bind")
    assert specs["bound"].argv == ("sleep", "1", "--bind")
