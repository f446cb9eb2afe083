"""The files of a study are found and read in one place, also when they are old or broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from numa_bench.errors import StoreError
from numa_bench.study_files import (
    MULTIRUN,
    OVERRIDES,
    RESOLVED_CONFIG,
    RESULTS,
    RUNS,
    SUMMARY,
    hash_owner,
    parse_records,
    read_records,
    read_summary,
    run_paths,
)
from numa_bench.study_search import find_studies, read_overrides, read_resolved_config, sweep_root
from tests.conftest import PROJECT
from tests.test_records import OLDEST


def make_study(directory: Path, *, runs: bool = True) -> Path:
    """The smallest directory that counts as a study."""
    directory.mkdir(parents=True)
    (directory / RESULTS).write_text("[]")
    if runs:
        (directory / SUMMARY).write_text("{}")
        (directory / RUNS).mkdir()
    return directory


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, numa_bench.study_files; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )

    assert not {"psutil", "torch", "pandas", "filelock", "yaml"} & set(done.stdout.split())


# Records.


def test_records_of_an_older_program_are_completed(tmp_path: Path) -> None:
    path = write(tmp_path / RESULTS, json.dumps([OLDEST]))

    (record,) = read_records(path)

    assert record["run_id"] == OLDEST["run_id"]
    assert record["torch_trace"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "it is not an array of records"),
        (json.dumps([OLDEST, 1]), "1 of 2 records: not an object"),
        (json.dumps([{**OLDEST, "schema_version": 9}]), "update it to a version that reads"),
        ("[" * 200_000, "nested too deeply"),
    ],
    ids=["object", "no record", "newer", "deep"],
)
def test_records_that_cannot_be_read_are_an_error_of_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = write(tmp_path / RESULTS, text)

    with pytest.raises(StoreError) as refused:
        read_records(path)

    assert str(refused.value).startswith(f"{path} cannot be read: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"results\.json cannot be read: .*No such file"):
        read_records(tmp_path / RESULTS)


def test_unusable_records_are_counted_by_reason(tmp_path: Path) -> None:
    bad = {**OLDEST, "host": None}
    path = write(tmp_path / RESULTS, json.dumps([bad, OLDEST, bad, 1]))

    parsed = parse_records(path)

    assert (len(parsed.records), parsed.total) == (1, 4)
    assert parsed.skipped == {"host is missing or not a text": 2, "not an object": 1}


# Summary and settings.


@pytest.mark.parametrize("text", [None, "", "[]", '{"planned": "many"}'])
def test_a_summary_that_cannot_be_read_is_empty(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path / SUMMARY, text)

    summary = read_summary(tmp_path)

    assert (summary["planned"], summary["started"], summary["machine"]) == (None, None, {})


def test_settings_are_read_from_where_the_runner_saves_them(tmp_path: Path) -> None:
    assert read_resolved_config(tmp_path) == {}
    write(tmp_path / RESOLVED_CONFIG, "experiment: {name: a}\n")
    assert read_resolved_config(tmp_path) == {"experiment": {"name": "a"}}


def test_settings_that_are_not_yaml_are_an_error_of_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / RESOLVED_CONFIG, "a: [1,\nb: }")

    with pytest.raises(StoreError, match="restore or remove it") as refused:
        read_resolved_config(tmp_path)

    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_overrides_are_those_of_the_study_or_of_its_sweep(tmp_path: Path) -> None:
    job = make_study(tmp_path / "0")
    assert read_overrides(job) == []
    write(job / OVERRIDES, "- a=1\n- b=2\n")
    assert read_overrides(job) == ["a=1", "b=2"]

    write(tmp_path / MULTIRUN, 'hydra: {overrides: {task: ["a=1,2"]}}')
    assert read_overrides(job) == ["a=1,2"]
    write(tmp_path / MULTIRUN, "hydra: x")
    assert read_overrides(job) == []


# Finding studies.


def test_a_job_of_a_sweep_has_the_sweep_as_its_root(tmp_path: Path) -> None:
    job, other = make_study(tmp_path / "12"), make_study(tmp_path / "notes")
    assert sweep_root(job) == job
    write(tmp_path / MULTIRUN, "")
    assert sweep_root(job) == tmp_path
    assert sweep_root(other) == other


def test_studies_are_found_at_and_below_a_path_but_not_inside_one(tmp_path: Path) -> None:
    second = make_study(tmp_path / "b" / "2026")
    first = make_study(tmp_path / "a" / "2026", runs=False)
    make_study(second / "tensorboard" / "copy")

    assert find_studies(tmp_path) == [first, second]
    assert find_studies(second) == [second]
    assert find_studies(tmp_path / "nowhere") == []


def test_copies_of_a_trackers_store_are_left_out_where_runs_are_needed(tmp_path: Path) -> None:
    study = make_study(tmp_path / "outputs" / "a")
    copy = make_study(tmp_path / "mlartifacts" / "1" / "artifacts", runs=False)

    assert find_studies(tmp_path, with_runs=True) == [study]
    assert find_studies(copy, with_runs=True) == [copy]  # named by the user


def test_the_files_of_a_run_are_below_its_study(tmp_path: Path) -> None:
    paths = run_paths(tmp_path, "a_r0")

    assert paths.spec == tmp_path / "runs" / "a_r0" / "spec.json"
    assert paths.stderr == tmp_path / "logs" / "a_r0.stderr"
    assert paths.report == tmp_path / "nsys_reports" / "a_r0.nsys-rep"
    assert paths.trace == tmp_path / "torch_traces" / "a_r0.json.gz"
    assert not paths.spare_result.is_relative_to(tmp_path)


def test_a_path_that_is_not_utf_8_has_an_owner() -> None:
    assert hash_owner(Path("/a\udcff")) != hash_owner(Path("/a"))
