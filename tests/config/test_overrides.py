"""The command line's bracket form: which arguments are rewritten, and which are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig

from numa_bench.config.error_text import find_own_error
from numa_bench.config.hydra.overrides import (
    check_options,
    find_touched_models,
    rewrite_command_line,
    to_dotted_key,
)
from numa_bench.errors import ConfigError, NumaBenchError


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("a[0]=1", "a.0=1"),
        ("a[0].b=1", "a.0.b=1"),
        ("a[0].b[1].c=1", "a.0.b.1.c=1"),
        ("a[0][1]=1", "a.0.1=1"),
        ("a[12].b=1", "a.12.b=1"),
        ("+a.b[0].c=1", "+a.b.0.c=1"),
        ("++a.b[0].c=1", "++a.b.0.c=1"),
        ("~a.b[0]", "~a.b.0"),
        ("~a.b[0]=1", "~a.b.0=1"),
        ("a[0]={x:[1,2]}", "a.0={x:[1,2]}"),
        ("a[0]=", "a.0="),
        ("a[0].b='x[1]=2'", "a.0.b='x[1]=2'"),
        ("a[0].b=line\nbreak[0]", "a.0.b=line\nbreak[0]"),
        ("experiment.vit_configs[0].depth=4,6,8,12", "experiment.vit_configs.0.depth=4,6,8,12"),
    ],
)
def test_indices_in_keys_are_rewritten(typed: str, wanted: str) -> None:
    assert to_dotted_key(typed) == wanted


@pytest.mark.parametrize(
    "typed",
    [
        "gpu_ids=[0],[1]",
        "experiment.hardware.gpu_ids=[0,1]",
        "experiment.hardware.gpu_ids=[0],[1],[2]",
        "x='a[0].b=1'",
        'x="a[0].b=1"',
        "x=[a[0],b]",
        "x=a[0].b",
        "+x=[a[0],b]",
        "x={a[0]:1}",
        "--config-dir=/x[0]/y",
        "--config-dir",
        "/x[0]/y",
        "/x[0]=y",
        "-m",
        "-cd=a[0]",
        "a.0.b=1",
        "a[0]",
        "a[0].b",
        "a[x].b=1",
        "a[-1].b=1",
        "a[].b=1",
        "a[0=1",
        "'a[0].b=1'",
        "",
        "=",
        "[0]=1",
    ],
)
def test_everything_else_is_left_alone(typed: str) -> None:
    assert to_dotted_key(typed) == typed


KEYS = st.lists(
    st.tuples(
        st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True),
        st.lists(st.integers(0, 99), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(
    prefix=st.sampled_from(["", "+", "++"]),
    parts=KEYS,
    value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)
def test_the_dotted_key_names_the_same_place_and_values_stay(
    prefix: str, parts: list[tuple[str, list[int]]], value: str
) -> None:
    typed = ".".join(name + "".join(f"[{i}]" for i in indices) for name, indices in parts)
    wanted = ".".join(".".join([name, *map(str, indices)]) for name, indices in parts)

    assert to_dotted_key(f"{prefix}{typed}={value}") == f"{prefix}{wanted}={value}"


@given(st.text(max_size=40))
def test_rewriting_twice_is_rewriting_once(argument: str) -> None:
    assert to_dotted_key(to_dotted_key(argument)) == to_dotted_key(argument)


@given(st.text(max_size=40))
def test_arguments_without_an_index_in_the_key_stay(argument: str) -> None:
    key = argument.partition("=")[0]
    if not re.search(r"\[\d+\]", key):
        assert to_dotted_key(argument) == argument


@pytest.mark.parametrize(
    "typed",
    [
        "a[0].b=1",
        "++a[0].b[1].c=[1,2]",
        "~a[0]",
        "a[0].b=${oc.env:X,[0]}",
        "a[0].b=4,6,8",
        "a[0]={x:[1,2]}",
    ],
)
def test_hydra_reads_the_dotted_form(typed: str) -> None:
    """And does not read the other one, which is why it is rewritten."""
    parser = OverridesParser.create()

    with pytest.raises(OverrideParseException):
        parser.parse_overrides([typed])
    (override,) = parser.parse_overrides([to_dotted_key(typed)])
    assert override.key_or_group == to_dotted_key(typed).partition("=")[0].lstrip("+~")


def test_the_index_reaches_its_entry(compose_node: Callable[..., DictConfig]) -> None:
    before = compose_node("experiment=numa_study").experiment.vit_configs
    after = compose_node("experiment=numa_study", "experiment.vit_configs[1].depth=8")
    depths = [vit.depth for vit in after.experiment.vit_configs]

    assert depths == [8 if i == 1 else vit.depth for i, vit in enumerate(before)]


def test_the_command_line_is_rewritten_in_place() -> None:
    argv = ["a[0].b=1", "-m", "a[0].b=1,2", "x=[0],[1]"]
    environ: dict[str, str] = {"HOME": "a[0].b=1"}

    rewrite_command_line(argv, environ)

    assert argv == ["a[0].b=1", "-m", "a.0.b=1,2", "x=[0],[1]"]
    assert environ == {"HOME": "a[0].b=1"}


def test_the_option_for_sweeps_may_come_between_overrides() -> None:
    argv = ["run.py", "a=1", "--multirun", "b=1,2"]

    rewrite_command_line(argv, {})

    assert argv == ["run.py", "--multirun", "a=1", "b=1,2"]


def test_options_that_hydra_has_are_accepted() -> None:
    check_options(["-m", "a=1", "b=1,2"])
    check_options(["--cfg", "job", "a=1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1", "--nope"], "--nope: not recognized"),
        (["a=1", "--cfg", "job", "b=2"], "b=2: not recognized; settings are KEY=VALUE, all"),
        (["--cfg", "nope"], "invalid choice: 'nope'"),
        (["--config-dir"], "expected one argument"),
    ],
)
def test_other_options_are_refused_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(NumaBenchError) as refused:
        check_options(words)

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("run.py a[0].b=1 c[1].d=", "run.py a.0.b=1 c[1].d="),
        ("run.py a[0].b=1 ", "run.py a.0.b=1 "),
        ("run.py a[0].b=", "run.py a[0].b="),
        ("run.py  a[0].b=1  x=[0] y", "run.py  a.0.b=1  x=[0] y"),
        ("run.py", "run.py"),
        ("", ""),
    ],
)
def test_the_completion_line_is_rewritten_except_the_word_being_typed(
    line: str, wanted: str
) -> None:
    environ = {"COMP_LINE": line}

    rewrite_command_line(["run.py"], environ)

    assert environ == {"COMP_LINE": wanted}


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], set()),
        (["experiment.vit_configs.0.depth=4"], {0}),
        (["experiment.vit_configs.0.depth=4", "experiment.vit_configs.11.dim=64"], {0, 11}),
        (["+experiment.vit_configs.3.name=x", "++experiment.vit_configs.4.dim=64"], {3, 4}),
        (["experiment.vit_configs.2={depth:1}"], {2}),
        (["experiment.vit_configs=[{depth:1}]", "experiment.test.seed=1"], set()),
        (["other.vit_configs.0.depth=4", "x=experiment.vit_configs.0.depth"], set()),
    ],
)
def test_which_models_the_command_line_touches(overrides: list[str], wanted: Any) -> None:
    assert find_touched_models(overrides) == wanted


def test_an_error_that_causes_itself_ends_the_search() -> None:
    theirs, own = ValueError("theirs"), ConfigError("a.b", "1", "use 2")
    theirs.__cause__ = theirs
    assert find_own_error(theirs) is None
    own.__cause__ = theirs
    assert find_own_error(own) is own
