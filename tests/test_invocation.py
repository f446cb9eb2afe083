"""Commands that are printed: paths in them are read back as they are, by the shell and by Hydra."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from numa_bench.invocation import quote_value, read_command_line, resume_command
from tests.fuzz.settings import fuzz_settings

HOSTILE = [
    "outputs/numa_study/2026-01-31/14-30-15",
    "study",
    "my study",
    " a ",
    "a=1,b",
    "a,b",
    "[0]",
    "{a: 1}",
    "1",
    "1e3",
    "null",
    "true",
    "~x",
    "-x",
    "#x",
    "%41",
    "$HOME",
    "`ls`",
    "$(ls)",
    "a;b&c|d<e>f*?!",
    "Messung/Zürich",
    "日本語",
    "it's",
    "it''s",
    'say "no"',
    "both ' and \"",
    "back\\slash",
    "ends\\",
    "ends\\\\",
    "\\'",
    "\\\\'x",
    "${nope}",
    "${oc.env:HOME}",
    "a${b",
    "$${x}",
    "\\${x}",
    "\\\\${x}'",
    "line\nbreak",
    "line\\\n",
    "tab\tstop",
]


def read_back(words: list[str]) -> str:
    """The value of resume_from as the runner's configuration has it."""
    (argument,) = [word for word in words if word.startswith("resume_from=")]
    override = OverridesParser.create().parse_override(argument)
    node = OmegaConf.create({"resume_from": None})
    OmegaConf.update(node, "resume_from", override.value())
    value = node.resume_from
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize("path", HOSTILE)
def test_the_resume_command_names_its_directory_in_a_real_shell(path: str) -> None:
    _, script, *arguments = shlex.split(resume_command(Path(path)))
    done = subprocess.run(
        ["bash", "-c", resume_command(Path(path)).replace("python ", "printf '%s\\0' ", 1)],
        capture_output=True,
        check=True,
    )

    assert done.stdout.decode().split("\0")[:-1] == [script, *arguments]
    assert read_back(arguments) == str(Path(path))


@pytest.mark.parametrize("path", HOSTILE)
def test_a_sweep_over_directories_names_each_of_them(path: str) -> None:
    """Hydra writes the value of each job anew."""
    paths = [f"{path}/0", f"{path}/1"]
    swept = OverridesParser.create().parse_override(
        f"resume_from={','.join(map(quote_value, paths))}"
    )

    jobs = BasicSweeper.split_arguments([swept], None)[0]

    assert [read_back(job) for job in jobs] == paths


#: Paths of what means something to a shell, to Hydra's grammar or to OmegaConf, and of all else
#: that a file can be named (\udcff is how Python names a byte that is not UTF-8).
PATHS = st.lists(
    st.sampled_from([*"\\\\\\'\"${}$`/[](),=:#~%!*é\U0001f600\n\t\x1b\udcff", "${", "null", "1e3"])
    | st.characters(exclude_characters="\0"),
    min_size=1,
    max_size=10,
).map("".join)


@fuzz_settings(400)
@given(PATHS)
def test_every_path_is_read_back(path: str) -> None:
    words = shlex.split(resume_command(Path(path)))

    assert read_back(words) == str(Path(path))


@fuzz_settings(100)
@given(PATHS, PATHS)
def test_every_two_paths_of_a_sweep_are_read_back(path: str, other: str) -> None:
    paths = [f"{path}/0", f"{other}/1"]
    words = f"resume_from={','.join(map(quote_value, paths))}"

    (swept,) = OverridesParser.create().parse_overrides([words])

    assert list(map(read_back, BasicSweeper.split_arguments([swept], None)[0])) == paths


@pytest.mark.parametrize(
    ("argv", "started", "typed"),
    [
        ("/src/runner.py -m a=1", "/bin/python3 -X dev /src/runner.py -m a=1", "runner.py -m a=1"),
        ("/bin/numa-bench a=1", "/bin/python3 /bin/numa-bench run a=1", "numa-bench run a=1"),
        ("/bin/numa-bench", "/bin/python3 /bin/numa-bench run", "numa-bench run"),
        (
            "/lib/numa_bench/__main__.py -- true",
            "python3 -m numa_bench compare-placements -- true",
            "python -m numa_bench compare-placements -- true",
        ),
        # Jobs of a sweep.
        ("/bin/numa-bench -m a=1,2", "python3 -m of.a.job 7 8", "numa-bench run -m a=1,2"),
        ("/src/runner.py -m a=1,2", "python3 -m of.a.job 7 8", "runner.py -m a=1,2"),
        (
            "/lib/__main__.py -m a=1,2",
            "python3 -m of.a.job 7",
            "hydra_experiment_runner.py -m a=1,2",
        ),
    ],
)
def test_the_command_line_of_a_study_is_the_one_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, argv: str, started: str, typed: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv.split())
    monkeypatch.setattr(sys, "orig_argv", started.split())
    assert " ".join(read_command_line()) == typed
