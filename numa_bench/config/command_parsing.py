"""From the texts of a command study's settings to argument vectors and metrics; their checks. Pure.

Nothing of the machine is looked at: whether a program exists is checked before the first run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from numa_bench.config.checks import check_at_least, check_name, check_one_of, check_seconds
from numa_bench.config.schemas.command import PLACEMENT_CHECKS, CommandConfig
from numa_bench.errors import ConfigError
from numa_bench.metric_registry import HIGHER, LOWER
from numa_bench.records import CommandSpec, NamedMetric
from numa_bench.records.command_spec import ALL, BOTH, LAST, STDERR, STDOUT
from numa_bench.redaction import has_credentials, is_secret

if TYPE_CHECKING:
    from numa_bench.config.schema import ExperimentConfig

KEY = "experiment.command"
#: Least seconds between two looks at a process tree.
LEAST_SAMPLE_S = 0.1
_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_METRIC_TEXT = re.compile(
    r"(?P<name>[^:=]*):(?P<better>[^:=]*):(?P<unit>[^=]*)=(?P<regex>.*)", re.S
)
_METRIC_HELP = "write name:higher:unit=regex or name:lower:unit=regex"
_MOST_NAME = 40
#: Programs that are named after the script or module that they run.
_INTERPRETER = re.compile(r"(python|pypy)[0-9.]*|(ba|da|z)?sh|perl|ruby|node|torchrun|uv|time|env")
#: An option or a variable with a value: --name=value, NAME=value.
_ASSIGNMENT = re.compile(r"(?:^|\s)(-{0,2}[A-Za-z][\w-]*)=(?=\S)")


def check_command(experiment: ExperimentConfig) -> None:
    """Raise ConfigError for the first setting of a command study that cannot be used."""
    command = experiment.command
    make_command_specs(command)
    if command.name is not None:
        check_name(f"{KEY}.name", command.name)
    check_at_least(f"{KEY}.warmup", command.warmup, 0)
    check_at_least(f"{KEY}.max_output_mb", command.max_output_mb, 1)
    check_one_of(f"{KEY}.placement_check", command.placement_check, PLACEMENT_CHECKS)
    check_seconds(f"{KEY}.sample_s", command.sample_s)
    check_at_least(f"{KEY}.sample_s", command.sample_s, LEAST_SAMPLE_S)
    if not 0 < command.least_fraction <= 1:
        raise ConfigError(
            f"{KEY}.least_fraction", command.least_fraction, "use a share above 0, up to 1"
        )


def make_command_specs(config: CommandConfig) -> dict[str, CommandSpec]:
    """The command as it is started, or each of its variants, by name. Raises ConfigError."""
    variants = config.variants or {}
    if not isinstance(variants, Mapping):
        raise ConfigError(f"{KEY}.variants", variants, "give a mapping, such as {plain: [...]}")
    if config.argv in (None, "", []) and not variants:
        raise ConfigError(
            f"{KEY}.argv", config.argv, "give a command, such as command='python train.py'"
        )
    if not variants:
        spec = _make_spec(config, _read_words("argv", config.argv, shell=config.shell))
        return {config.name or derive_name(spec.argv, shell=spec.shell): spec}
    if len(variants) == 1:
        raise ConfigError(f"{KEY}.variants", dict(variants), "give two or more to compare")
    if config.name is not None:
        raise ConfigError(f"{KEY}.name", config.name, "variants have names; remove this key")
    specs = {}
    for number, (name, words) in enumerate(variants.items()):
        check_name(f"{KEY}.variants", str(name))
        words, require = _split_variant(str(name), words)
        spec = _make_spec(config, _join_variant(config, str(name), words))
        own = parse_argv(f"variants.{name}.require", require) or spec.require
        specs[str(name)] = replace(spec, variant=number, require=own)
    if len({spec.argv for spec in specs.values()}) < len(specs):
        raise ConfigError(f"{KEY}.variants", dict(variants), "two of them are the same command")
    return specs


def _split_variant(name: str, words: Any) -> tuple[Any, Any]:
    """What a variant runs, and what it requires: a mapping has both."""
    if not isinstance(words, Mapping):
        return words, None
    for key in words:
        if key not in ("argv", "require"):
            raise ConfigError(f"{KEY}.variants.{name}", key, "unknown; use argv and require")
    return words.get("argv"), words.get("require")


def _join_variant(config: CommandConfig, name: str, words: Any) -> tuple[str, ...]:
    """A variant's own command, or the common one with its arguments."""
    base = _read_words("argv", config.argv, shell=config.shell)
    if not base:
        return _read_words(f"variants.{name}", words, shell=config.shell)
    if words in (None, "", []):
        return base
    own = _read_words(f"variants.{name}", words, shell=config.shell)
    return (f"{base[0]} {own[0]}",) if config.shell else (*base, *own)


def _read_words(name: str, value: Any, *, shell: bool) -> tuple[str, ...]:
    if value is None:
        return ()
    return _read_shell_text(name, value) if shell else parse_argv(name, value)


def _make_spec(config: CommandConfig, argv: tuple[str, ...]) -> CommandSpec:
    metrics = tuple(parse_metric(entry) for entry in _list_metrics(config.metrics))
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{KEY}.metrics", name, "is listed twice; give each its own name")
    return CommandSpec(
        argv=argv,
        shell=config.shell,
        metrics=metrics,
        warmup=config.warmup,
        directory=config.directory,
        placement_check=config.placement_check,
        least_fraction=config.least_fraction,
        sample_s=config.sample_s,
        max_output_mb=config.max_output_mb,
        require=parse_argv("require", config.require),
        prepare=parse_argv("prepare", config.prepare),
        cleanup=parse_argv("cleanup", config.cleanup),
        check=parse_argv("check", config.check),
    )


def parse_argv(name: str, value: Any) -> tuple[str, ...]:
    """A list of arguments, or a text split as a POSIX shell would; empty for null.

    Raises ConfigError for other values, and for arguments that hold a secret: settings are stored.
    """
    key = f"{KEY}.{name}"
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            argv = tuple(shlex.split(value))
        except ValueError as error:
            fix = f"cannot be split into arguments ({error}); quote it, or give a list"
            raise ConfigError(key, value, fix) from None
    elif isinstance(value, (list, tuple)) and not any(
        # A word such as true or null is no text any more when it gets here.
        isinstance(item, (list, tuple, dict, bool)) or item is None
        for item in value
    ):
        argv = tuple(str(item) for item in value)
    else:
        raise ConfigError(
            key, value, "use a text, or a list of arguments; quote words such as 'true' and 'null'"
        )
    if not argv or not argv[0]:
        raise ConfigError(key, value, "holds no program; remove it, or give one")
    for argument, value_of in zip(argv, ("", *argv), strict=False):
        # The value of --api-key may be an argument of its own.
        option = value_of.startswith("--") and "=" not in value_of and argument[:1] != "-"
        _refuse_secret(key, f"{value_of}={argument}" if option else argument)
    return argv


def _read_shell_text(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise ConfigError(f"{KEY}.{name}", value, "with shell=true the command is one text")
    for word in value.split():
        _refuse_secret(f"{KEY}.{name}", word)
    return (value,)


def _refuse_secret(key: str, argument: str) -> None:
    """Raise ConfigError for an argument that seems to hold a secret. The value is not shown."""
    found = _ASSIGNMENT.search(argument)
    if found and is_secret(found[1].replace("-", "_")) and not _is_count(found[1]):
        raise ConfigError(
            key,
            f"...{found[1]}=...",
            "looks like a secret, and settings are stored; pass it in an environment variable",
        )
    if has_credentials(argument):
        raise ConfigError(
            key,
            "...://...@...",
            "holds a user name or password, and settings are stored; pass it in an environment "
            "variable",
        )


def _is_count(name: str) -> bool:
    """Whether a name is that of a number of tokens: --max-tokens, --num_tokens."""
    return re.search(r"tokens$|token[_-]?(len|count|ids?|size)|tokenizer", name, re.I) is not None


def _list_metrics(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


def parse_metric(entry: Any) -> NamedMetric:
    """A metric from name:higher|lower:unit=regex or from a mapping. Raises ConfigError."""
    key = f"{KEY}.metrics"
    if isinstance(entry, str):
        found = _METRIC_TEXT.fullmatch(entry.strip())
        if found is None:
            raise ConfigError(key, entry, _METRIC_HELP)
        metric = NamedMetric(**{name: text.strip() for name, text in found.groupdict().items()})
    elif isinstance(entry, Mapping):
        known = [field.name for field in fields(NamedMetric)]
        for name in entry:
            if name not in known:
                raise ConfigError(key, name, f"unknown; use {', '.join(known)}")
        missing = [name for name in ("name", "better", "unit") if not entry.get(name)]
        if missing:
            raise ConfigError(key, dict(entry), f"{missing[0]} is missing; {_METRIC_HELP}")
        metric = NamedMetric(**{str(k): None if v is None else str(v) for k, v in entry.items()})  # type: ignore[arg-type]
    else:
        raise ConfigError(key, entry, _METRIC_HELP)
    _check_metric(key, metric)
    return metric


def _check_metric(key: str, metric: NamedMetric) -> None:
    if not _METRIC_NAME.fullmatch(metric.name) or len(metric.name) > _MOST_NAME:
        raise ConfigError(
            key, metric.name or "''", f"use letters, digits and '_', at most {_MOST_NAME}"
        )
    check_one_of(f"{key}.{metric.name}", metric.better, (HIGHER, LOWER))
    if not metric.unit:
        raise ConfigError(f"{key}.{metric.name}", "''", f"has no unit; {_METRIC_HELP}")
    check_one_of(f"{key}.{metric.name}.stream", metric.stream, (BOTH, STDOUT, STDERR))
    check_one_of(f"{key}.{metric.name}.take", metric.take, (LAST, ALL))
    by_json = metric.json is not None or metric.key is not None
    if by_json == (metric.regex is not None) or (by_json and not (metric.json and metric.key)):
        raise ConfigError(
            f"{key}.{metric.name}", entry_text(metric), "give regex, or both json and key"
        )
    if metric.regex is not None:
        _check_regex(f"{key}.{metric.name}", metric.regex)


def entry_text(metric: NamedMetric) -> str:
    """Where a metric is read, in words of the settings."""
    if metric.regex is not None:
        return metric.regex
    return f"{metric.json}:{metric.key}"


def _check_regex(key: str, regex: str) -> None:
    try:
        groups = re.compile(regex).groups
    except re.error as error:
        raise ConfigError(key, regex, f"is no regular expression: {error}") from None
    if not regex or groups > 1:
        raise ConfigError(key, regex or "''", "needs one group at most, around the number")


def derive_name(argv: Sequence[str], *, shell: bool) -> str:
    """The name of a command: its program's, or that of the script or module that it runs."""
    words = list(argv)
    if shell:
        words = words[0].split()
    name = PurePath(words[0]).name
    rest = words[1:]
    if _INTERPRETER.fullmatch(name) and rest:
        if "-m" in rest[:-1]:
            name = rest[rest.index("-m") + 1]
        elif rest[0] == "-c":
            name = f"{name}-c"
        else:
            scripts = [word for word in rest if re.search(r"\.(py|sh|pl|rb|js)$", word)]
            name = PurePath(scripts[0]).name if scripts else name
    # Only what a directory's name may have.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.-")
    return plain[:_MOST_NAME].rstrip("_.-") or "command"
