"""From study directories to one table: what is found, what is skipped and why, what is a group."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from numa_bench.analysis.read.groups import (
    count_excluded,
    difference_table,
    excluded_table,
    group_table,
)
from numa_bench.analysis.read.runs import Filters, find_results, load_runs, load_studies
from numa_bench.analysis.stats.tables import cell_table
from numa_bench.errors import StoreError
from numa_bench.records import Status, upgrade
from tests.fake_scenarios import HOSTILE, KINDS, numa_study, one_gpu, server8, write_kind
from tests.fake_study import again, write_study


def change(path: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Edit a results.json in place."""
    records = json.loads(path.read_text())
    found = edit(records)
    path.write_text(json.dumps(records if found is None else found))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of 60 runs below tmp_path."""
    return write_study(tmp_path, replace(numa_study(one_gpu()), raw=0))


@pytest.mark.slow
def test_every_kind_of_study_loads_without_a_problem(tmp_path: Path) -> None:
    for kind in KINDS:
        write_kind(tmp_path, kind)
    loaded = load_studies(tmp_path)
    assert loaded.problems == []
    assert len(loaded.frame) == sum(study.recorded for study in loaded.studies)
    assert set(loaded.frame["study"]) == {study.name for study in loaded.studies}


def test_the_library_call_gives_a_table_that_pandas_groups(study: Path, tmp_path: Path) -> None:
    runs = load_runs(tmp_path, "numa_study")
    assert len(runs) == 60
    medians = runs[runs.in_statistics].groupby("placement")["throughput_samples_per_s"].median()
    assert medians["remote"] < medians["local"]
    assert runs.groupby("numa_node")["success"].mean().to_dict() == {0: 1.0, 2: 1.0}
    row = runs.iloc[0]
    assert row["study_dir"] == str(study)
    assert row["vit_patch_size"] in (16, 32)
    assert row["test_batch_size"] == 8
    assert row["env_nvidia_driver"] == "550.54.15"
    assert row["env_torch"] == "2.4.0+cu124"
    assert 1600 < row["monitor_sm_mhz_median"] < 1800
    assert pd.isna(row["compile_s"])


def test_names_match_exactly_and_the_analysis_is_no_study(tmp_path: Path) -> None:
    for name in ("numa", "numa_study", "debug", "dry_run", "analysis"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "results.json").write_text("[]")
    (tmp_path / "multirun" / "numa" / "day" / "0").mkdir(parents=True)
    (tmp_path / "multirun" / "numa" / "day" / "0" / "results.json").write_text("[]")

    def names(name: str) -> list[str]:
        return [p.relative_to(tmp_path).as_posix() for p in find_results(tmp_path, name)]

    assert names("numa") == ["multirun/numa/day/0/results.json", "numa/x/results.json"]
    assert names("debug") == ["debug/x/results.json"]
    assert [n.split("/")[0] for n in names("all")] == ["multirun", "numa", "numa_study"]
    (tmp_path / "notes" / "deeper").mkdir(parents=True)  # no study
    with pytest.raises(StoreError, match=r"choose one of debug, dry_run, numa, numa_study$"):
        find_results(tmp_path, "num")
    with pytest.raises(StoreError, match="experiment_name=analysis"):
        find_results(tmp_path, "analysis")
    with pytest.raises(StoreError, match="no such directory"):
        find_results(tmp_path / "nowhere")


def test_paths_may_be_files_or_directories_each_counted_once(study: Path, tmp_path: Path) -> None:
    runs = load_runs([study, study / "results.json", tmp_path])
    assert len(runs) == 60
    assert len(load_runs(study)) == len(load_runs(study / "results.json")) == 60
    with pytest.raises(StoreError, match="no such file"):
        load_studies([tmp_path / "gone"])
    (tmp_path / "notes" / "old").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"results=.*notes: no study is there"):
        load_studies([tmp_path / "notes"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ('[{"schema_version": 1,', "cannot be read"),
        ("{}", "not an array"),
        ("\udcff", "cannot be read"),
        ("[" * 200_000, "cannot be read"),
    ],
    ids=["empty", "torn", "object", "not UTF-8", "deep"],
)
@pytest.mark.usefixtures("study")
def test_a_broken_file_is_named_and_the_others_are_used(
    tmp_path: Path, text: str, reason: str
) -> None:
    broken = tmp_path / "numa_study" / "broken" / "results.json"
    broken.parent.mkdir()
    broken.write_text(text, errors="surrogateescape")
    loaded = load_studies(tmp_path)
    assert len(loaded.frame) == 60
    assert [p.path for p in loaded.problems] == [str(broken)]
    assert reason in loaded.problems[0].reason
    assert "\n" not in loaded.problems[0].reason


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schema_version", 0, "schema_version 0 is too old"),
        ("schema_version", 99, "schema_version 99 is newer"),
        ("schema_version", None, "schema_version is missing"),
        ("status", "great", "status 'great' is unknown"),
        ("vit_config", None, "vit_config is missing"),
        ("throughput_samples_per_s", "fast", "throughput_samples_per_s is not a number"),
        ("repeat", "x", "repeat is missing"),
        ("host", None, "host is missing"),
    ],
)
def test_a_record_that_cannot_be_used_is_counted_with_its_reason(
    study: Path, key: str, value: object, reason: str
) -> None:
    change(study / "results.json", lambda records: records[3].update({key: value}))
    loaded = load_studies([study])
    assert len(loaded.frame) == 59
    assert reason in loaded.problems[0].reason
    assert loaded.problems[0].reason.startswith("1 of 60 records skipped")


def test_an_older_schema_is_read_where_there_is_a_migration(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old(records: list[dict[str, Any]]) -> None:
        for record in records:
            record["schema_version"] = 0
            record["model"] = record.pop("vit_name")

    change(study / "results.json", old)
    assert load_studies([study]).frame.empty
    monkeypatch.setitem(upgrade.MIGRATIONS, 0, lambda r: r.update(vit_name=r.pop("model")))
    assert len(load_studies([study]).frame) == 60


def test_records_without_what_came_later_still_load(study: Path) -> None:
    later = ("profiler", "profiler_capture", "nsys_report", "warnings", "monitor", "memory_nodes")

    def edit(records: list[dict[str, Any]]) -> None:
        for record in records:
            for key in later:
                record.pop(key, None)

    change(study / "results.json", edit)
    runs = load_runs([study])
    assert len(runs) == 60
    assert set(runs["profiler"]) == {"none"}


def test_not_a_number_is_not_measured(study: Path) -> None:
    change(study / "results.json", lambda r: r[0].update(throughput_samples_per_s=float("nan")))
    runs = load_runs([study])
    (odd,) = np.flatnonzero(np.isnan(runs["throughput_samples_per_s"]))
    assert not runs["in_statistics"].iloc[odd]
    assert excluded_table(runs)["error"].iloc[0] == "passed, but has no throughput"


def test_a_missing_or_broken_summary_is_told_and_the_runs_are_used(study: Path) -> None:
    (study / "experiment_summary.json").write_text("{")
    (study / "topology.json").unlink()
    loaded = load_studies([study])
    assert len(loaded.frame) == 60
    assert [Path(p.path).name for p in loaded.problems] == [
        "experiment_summary.json",
        "topology.json",
    ]
    assert loaded.frame["env_torch"].iloc[0] == "2.4.0+cu124"  # the worker reports it too


def test_a_study_that_is_still_running_is_used_as_far_as_it_is(tmp_path: Path) -> None:
    write_kind(tmp_path, "running")
    loaded = load_studies(tmp_path)
    assert len(loaded.frame) == 17
    assert loaded.studies[0].running
    assert loaded.studies[0].planned == 60


@pytest.mark.slow
def test_filters_keep_what_they_name(tmp_path: Path) -> None:
    first = replace(numa_study(server8()), raw=0)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first, host="other"))

    def kept(**filters: Any) -> int:
        return len(load_runs(tmp_path, "all", Filters(**filters)))

    assert kept() == 1920
    assert kept(hosts=("other",)) == 960
    assert kept(gpus=("3",)) == 240
    assert kept(gpus=("NVIDIA H100 80GB HBM3",)) == 1920
    assert kept(gpus=("cpu",)) == 0
    assert kept(models=("vit32x0", "vit32x2x128")) == 640
    assert kept(date_from="2026-02-01") == 960
    assert kept(date_to="2026-01-31") == 960
    assert kept(date_from="2026-02-02") == 0
    with pytest.raises(StoreError, match=r"date_from=31\.1\.2026"):
        kept(date_from="31.1.2026")


def test_an_empty_selection_is_an_empty_table_with_its_columns(study: Path) -> None:
    loaded = load_studies([study], "all", Filters(models=("no such",)))
    assert loaded.frame.empty
    assert count_excluded(loaded.frame) == {}
    assert group_table(loaded.frame).empty
    assert difference_table(loaded).empty


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"host": "other"},
        {"changes": {"nvidia_driver": "999"}},
        {"changes": {"packages": {"torch": "3.0"}}},
        {"profiler": "nsys"},
    ],
    ids=["host", "driver", "torch", "profiler"],
)
def test_runs_that_differ_are_separate_groups_and_it_is_told(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = replace(numa_study(one_gpu()), raw=0)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first, **changes))
    loaded = load_studies(tmp_path)
    assert len(group_table(loaded.frame)) == 2
    assert loaded.frame.groupby("cell")["group"].nunique().max() == 1
    assert set(cell_table(loaded.frame)["n"]) == {5}
    differences = difference_table(loaded)
    key, value = next(iter(changes.items()))
    if key == "changes":
        inner, value = next(iter(value.items()))
        key = inner if isinstance(value, str) else "packages.torch"
        value = value if isinstance(value, str) else value["torch"]
    assert value in differences.set_index("key").loc[key].to_numpy()


def test_runs_of_a_shared_host_are_a_group_of_their_own(study: Path) -> None:
    """And runs of before records said so are in that of a silent host."""

    def edit(records: list[dict[str, Any]]) -> None:
        for number, record in enumerate(records):
            record.pop("shared_host")
            if number < 40:
                record["shared_host"] = number < 20

    change(study / "results.json", edit)
    loaded = load_studies([study])
    assert loaded.frame.groupby("shared_host")["group"].nunique().to_dict() == {False: 1, True: 1}
    assert loaded.frame["group"].nunique() == 2
    assert "shared_host" in set(difference_table(loaded)["key"])


def test_the_same_twice_is_pooled_as_more_repeats(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu()), raw=0)
    write_study(tmp_path, first)
    write_study(tmp_path, again(first))
    loaded = load_studies(tmp_path)
    assert len(group_table(loaded.frame)) == 1
    assert difference_table(loaded).empty
    assert set(cell_table(loaded.frame)["n"]) == {10}


def test_what_did_not_pass_is_listed_with_its_reason_and_in_no_statistic(tmp_path: Path) -> None:
    bad = {0: Status.FAILED, 1: Status.INVALID, 2: Status.TIMEOUT, 3: Status.INTERRUPTED}
    write_study(tmp_path, replace(numa_study(one_gpu()), bad=bad, raw=0))
    runs = load_runs(tmp_path)
    assert count_excluded(runs) == {s.value: 1 for s in bad.values()}
    out = excluded_table(runs)
    assert "illegal memory access" in str(out.set_index("status").loc["failed", "error"])
    assert out["stderr_log"].str.startswith("logs/").all()
    assert cell_table(runs)["n"].sum() == 56


def test_hostile_texts_come_through_as_they_are(tmp_path: Path) -> None:
    write_kind(tmp_path, "hostile")
    runs = load_runs(tmp_path)
    assert set(runs["vit_name"]) == {HOSTILE}
    assert len(runs) == 6


def test_models_are_named_by_what_their_study_varies(tmp_path: Path) -> None:
    for kind in ("compile", "batch", "one_gpu"):
        write_kind(tmp_path, kind)
    runs = load_runs(tmp_path)
    names = runs.groupby("study")["model_text"].unique()
    assert "vit32x6x512 eager" in names["compile_study"]
    assert "vit32x6x512 compiled:max-autotune" in names["compile_study"]
    assert "vit32x4x256 batch_size=16" in names["batch_study"]
    assert set(names["numa_study"]) == set(runs.loc[runs["study"] == "numa_study", "vit_name"])
