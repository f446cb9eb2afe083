"""Exports run beside a run's preparation, and hold a lock for as long as they last."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from numa_bench.profiling.exports import Exporter

Outcomes = list[tuple[str, str | None]]


def program(path: Path, text: str) -> str:
    """An nsys that does this with $target, what --output names."""
    find = 'for w; do case "$w" in --output=*) target="${w#--output=}";; esac; done'
    path.write_text(f"#!/bin/sh\n{find}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def is_free(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_the_lock_is_held_from_before_start_returns_until_the_export_ends(tmp_path: Path) -> None:
    go, lock, target = tmp_path / "go", tmp_path / "lock", tmp_path / "r.sqlite"
    os.mkfifo(go)
    outcomes: Outcomes = []
    exporter = Exporter(
        program(tmp_path / "nsys", f'read line < "{go}"; echo done > "$target"'),
        lock,
        lambda *end: outcomes.append(end),
    )

    exporter.start_export("a", tmp_path / "r.nsys-rep", target)
    assert not is_free(lock)
    assert outcomes == []
    go.write_text("go\n")
    exporter.collect_export()

    assert is_free(lock)
    assert outcomes == [("a", None)]
    assert target.read_text() == "done\n"


def test_one_export_ends_before_the_next_begins(tmp_path: Path) -> None:
    outcomes: Outcomes = []
    nsys = program(tmp_path / "nsys", 'echo "$target" >> "$target"')
    exporter = Exporter(nsys, tmp_path / "lock", lambda *end: outcomes.append(end))

    for name in ("a", "b"):
        exporter.start_export(name, tmp_path / f"{name}.nsys-rep", tmp_path / f"{name}.sqlite")
    exporter.collect_export()
    exporter.collect_export()

    assert outcomes == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo no room >&2; exit 3", "nsys export exited with 3: no room"),
        ("exit 0", "could not be exported"),  # writes nothing
    ],
)
def test_a_failed_export_is_reported_and_leaves_no_partial_file(
    tmp_path: Path, text: str, reason: str
) -> None:
    outcomes: Outcomes = []
    exporter = Exporter(
        program(tmp_path / "nsys", text), tmp_path / "lock", lambda *end: outcomes.append(end)
    )

    exporter.start_export("a", tmp_path / "r.nsys-rep", tmp_path / "r.sqlite")
    exporter.collect_export()

    ((run_id, problem),) = outcomes
    assert run_id == "a"
    assert reason in str(problem)
    assert {path.name for path in tmp_path.iterdir()} == {"nsys", "lock"}


def test_an_interrupted_study_does_not_wait_for_an_export(tmp_path: Path) -> None:
    outcomes: Outcomes = []
    nsys = program(tmp_path / "nsys", "sleep 3")
    exporter = Exporter(nsys, tmp_path / "lock", lambda *end: outcomes.append(end), lambda: True)

    exporter.start_export("a", tmp_path / "r.nsys-rep", tmp_path / "r.sqlite")
    exporter.collect_export()

    ((run_id, problem),) = outcomes
    assert run_id == "a"
    assert "was interrupted" in str(problem)


def test_without_a_lock_only_the_export_fails(tmp_path: Path) -> None:
    outcomes: Outcomes = []
    exporter = Exporter("nsys", tmp_path / "no" / "lock", lambda *end: outcomes.append(end))

    exporter.start_export("a", tmp_path / "r.nsys-rep", tmp_path / "r.sqlite")
    exporter.collect_export()

    ((_, problem),) = outcomes
    assert str(problem).startswith("the export's lock file cannot be opened")
