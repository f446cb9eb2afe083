"""Names and values of others cannot control the terminal, whichever command prints them."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rich.table import Table

from numa_bench.commands import inspect
from numa_bench.plan.plan import Plan
from numa_bench.records import Status
from numa_bench.runner.display.console import Reporter, result_line
from numa_bench.terminal.console import CleanConsole
from numa_bench.terminal.lines import print_error
from numa_bench.tracking.command import main as track
from tests.conftest import Outcome
from tests.machines import laptop
from tests.nsys_files import VERSIONS, pipeline, write_report
from tests.specs import record_of

TITLE = "\x1b]0;title\x07"
RED = "\x1b[31m"


@pytest.mark.parametrize(
    "arguments",
    [
        (f"experiment.name={RED}x",),
        (f"output.progress={TITLE}",),
        (f"hydra.run.dir={TITLE}", "experiment.repeats=0"),
        (f"experiment={RED}x",),
        (f"ex{RED}=3",),
        ("-m", f"experiment.name=a,{RED}"),
        (f"resume_from=/{TITLE}",),
    ],
)
def test_values_of_a_refused_command_line(
    runner: Callable[..., Outcome], arguments: tuple[str, ...]
) -> None:
    out = runner(*arguments)

    assert out.code == 2
    assert out.error
    assert "\x1b" not in out.stdout + out.stderr
    assert "\x07" not in out.stdout + out.stderr


@pytest.mark.parametrize("name", ["check", "resume", "collect"])
def test_paths_given_to_other_commands(
    command: Callable[..., Outcome], tmp_path: Path, name: str
) -> None:
    hostile = tmp_path / f"a{TITLE}"
    hostile.mkdir()
    arguments = {
        "check": [f"resume_from={hostile}", f"experiment.name={RED}"],
        "resume": [str(hostile)],
        "collect": [f"a{TITLE}", "--into", str(tmp_path / f"b{TITLE}")],
    }

    out = command(name, *arguments[name])

    assert out.code in (1, 2)
    assert out.stderr
    assert not {"\x1b", "\x07"} & set(out.stdout + out.stderr)


def test_a_tracker_and_its_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track(["sync", str(tmp_path / f"a{TITLE}")]) == 2

    error = capsys.readouterr().err
    assert error.startswith("error: no study at or below ")
    assert not {"\x1b", "\x07"} & set(error)


def test_tables_and_lines_keep_their_own_style() -> None:
    screen = io.StringIO()
    console = CleanConsole(file=screen, force_terminal=True, color_system="standard", width=60)
    table = Table()
    table.add_column(f"a{TITLE}")
    table.add_row(f"{RED}one", style="green")
    console.print(table)
    console.print(f"two{TITLE}\n\x1b[2Jthree", style="bold")

    text = screen.getvalue()
    assert RED not in text
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert "\x1b[32mone" in text
    assert "\x1b[1mtwo" in text


def test_the_log_on_the_terminal(
    capsys: pytest.CaptureFixture[str], plan: Callable[..., Plan]
) -> None:
    record = record_of("r0", Status.FAILED)
    record["error"] = f"kernel {TITLE}{RED}failed"
    with Reporter(plan(laptop(), "experiment=quick_test"), bar=False) as reporter:
        reporter.show_run_end(record)
        logging.getLogger("numa_bench").warning("name: %s", TITLE)

    assert "\x1b" in result_line(record)
    shown = capsys.readouterr().err
    assert "kernel failed" in shown
    assert not {"\x1b", "\x07"} & set(shown)


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("/a\nb\r\x85c: no such file")

    assert capsys.readouterr().err == "error: /a b\ufffd\ufffdc: no such file\n"


def test_a_damaged_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_report(tmp_path / "a.sqlite", pipeline(3), VERSIONS[0])
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA writable_schema=ON")
        statement = f"CREATE TABLE NVTX_EVENTS ({RED} {TITLE})"
        base.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'NVTX_EVENTS'", (statement,))

    assert inspect.main([str(path)]) == 2

    error = capsys.readouterr().err
    assert "malformed" in error
    assert "\x1b" not in error


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
@pytest.mark.parametrize("value", ["a", b"\xff", -1, 0.5, 1 << 62])
def test_odd_values_of_a_gpu_end_no_inspection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str], value: object
) -> None:
    path = write_report(tmp_path / "a.sqlite", pipeline(3), VERSIONS[0])
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE copy AS SELECT * FROM TARGET_INFO_GPU")
        base.execute("DROP TABLE TARGET_INFO_GPU")
        base.execute("ALTER TABLE copy RENAME TO TARGET_INFO_GPU")
        base.execute("UPDATE TARGET_INFO_GPU SET totalMemory = ?, smCount = ?", (value, value))

    assert inspect.main([str(path), *form]) == 0

    out = capsys.readouterr().out
    if form == ["--json"]:
        assert len(json.loads(out)) == 1
