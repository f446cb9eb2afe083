"""Collecting studies: verified, resumable, never over another study, one line a source."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.commands import collect
from numa_bench.commands.collect import main
from numa_bench.commands.collect_sources import LocalSource, hash_directory
from numa_bench.errors import StoreError
from numa_bench.jsonio import read_json, write_json
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study

#: ssh that runs the command here, and rsync by a plain copy; both note their arguments.
_SSH = """#!{python}
import subprocess, sys
if sys.argv[-2] == "down":
    sys.exit("ssh: connect to host down port 22: No route to host")
open({log!r}, "a").write("ssh\\n")
sys.exit(subprocess.run(["sh", "-c", sys.argv[-1]]).returncode)
"""
_RSYNC = """#!{python}
import shutil, sys
source, to = sys.argv[-2:]
assert "--checksum" in sys.argv and "--delete" in sys.argv
open({log!r}, "a").write("rsync\\n")
out = [a.partition("=")[2] for a in sys.argv if a.startswith("--exclude=")]
shutil.rmtree(to)
shutil.copytree(source.partition(":")[2], to, ignore=shutil.ignore_patterns(*out))
"""


@pytest.fixture
def other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes ssh and rsync reach this machine under any name; returns the log of their calls."""
    log, folder = tmp_path / "calls.log", tmp_path / "bin"
    folder.mkdir()
    for name, script in (("ssh", _SSH), ("rsync", _RSYNC)):
        path = folder / name
        path.write_text(script.format(python=sys.executable, log=str(log)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def make_study(root: Path, host: str, stop_after: int | None = None) -> Path:
    study = scenario(
        "numa_study", one_gpu(), models((32, 0, 512)), 2, numa_nodes=["local", "remote"]
    )
    return write_study(root, replace(study, host=host, stop_after=stop_after))


def files(root: Path) -> dict[str, str]:
    return hash_directory(root)


def test_studies_of_two_hosts_that_started_in_the_same_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [make_study(tmp_path / host / "outputs", host) for host in ("gpu-a", "gpu-b")]
    (sources[0] / ".lock").touch()  # of a study that was killed
    roots = [str(tmp_path / host / "outputs") for host in ("gpu-a", "gpu-b")]
    assert main([*roots, "--into", str(tmp_path / "all")]) == 0
    count = len(files(sources[0]))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{root}: 1 study copied ({count} files, verified)" for root in roots]
    for host, source in zip(("gpu-a", "gpu-b"), sources, strict=True):
        target = tmp_path / "all" / "numa_study" / host / source.parent.name / source.name
        assert files(target) == files(source)
        listed = read_json(target / "collected.json")
        assert listed["files"] == files(source)
        assert not (target / ".lock").exists()
    frame = load_studies(tmp_path / "all", "numa_study").frame
    assert sorted(frame["host"].unique()) == ["gpu-a", "gpu-b"]
    assert not (tmp_path / "all" / ".collect").exists()


def test_a_second_time_nothing_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "a", "gpu-a")
    arguments = [str(tmp_path / "a"), "--into", str(tmp_path / "all")]
    assert main(arguments) == 0
    monkeypatch.setattr(LocalSource, "copy_files", lambda *_: pytest.fail("it is there"))
    assert main(arguments) == 0
    assert "0 studies copied (0 files, verified), 1 already there" in capsys.readouterr().out


def test_over_ssh(tmp_path: Path, other_host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_study(tmp_path / "with space's", "gpu-a")
    (source / "runs" / "odd\nname").write_text("x")
    text = f"me@gpu-a:{tmp_path}/with space's"
    assert main([text, "--into", str(tmp_path / "all")]) == 0
    (listed,) = (tmp_path / "all").rglob("collected.json")
    assert files(listed.parent) == files(source)
    assert read_json(listed)["source"] == text
    assert "rsync" in other_host.read_text().split()
    assert main([text, "--into", str(tmp_path / "all")]) == 0
    assert other_host.read_text().split().count("rsync") == 1
    assert "1 already there" in capsys.readouterr().out


def test_a_source_that_fails_is_one_line_and_the_others_are_collected(
    tmp_path: Path, other_host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(tmp_path / "a", "gpu-a")
    (tmp_path / "empty").mkdir()
    words = ["down:/data", str(tmp_path / "none"), str(tmp_path / "empty"), str(tmp_path / "a")]
    assert main([*words, "--into", str(tmp_path / "all")]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "error: down:/data: ssh: connect to host down port 22: No route to host",
        f"error: {words[1]}: no such directory; give HOST:DIR or a directory of this host",
        f"error: {words[2]}: there is no results.json in it; give a study or an output root",
    ]
    assert captured.out.startswith(f"{words[3]}: 1 study copied")
    assert not other_host.exists()  # nothing was copied over ssh


def test_a_study_that_went_on_replaces_its_copy(tmp_path: Path) -> None:
    source, into = tmp_path / "a", tmp_path / "all"
    study = make_study(source, "gpu-a", stop_after=3)
    assert main([str(source), "--into", str(into)]) == 0
    before = len(load_studies(into).frame)
    make_study(source, "gpu-a")
    assert main([str(source), "--into", str(into)]) == 0
    assert before == 3
    assert len(load_studies(into).frame) == len(read_json(study / "results.json"))


def test_a_damaged_copy_is_copied_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, into = make_study(tmp_path / "a", "gpu-a"), tmp_path / "all"
    assert main([str(tmp_path / "a"), "--into", str(into)]) == 0
    (copy,) = (path.parent for path in into.rglob("results.json"))
    (damaged,) = list((copy / "runs").rglob("*.json"))[:1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert main([str(tmp_path / "a"), "--into", str(into)]) == 0
    assert "1 study copied" in capsys.readouterr().out.splitlines()[-1]
    assert files(copy) == files(study)


def test_what_a_tracker_was_fed_from_a_copy_is_not_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, into = tmp_path / "a", tmp_path / "all"
    make_study(source, "gpu-a", stop_after=3)
    assert main([str(source), "--into", str(into)]) == 0
    (copy,) = (path.parent for path in into.rglob("results.json"))
    write_json(copy / "tracking.json", {"mlflow": {"run": "1"}})
    assert main([str(source), "--into", str(into)]) == 0
    assert "1 already there" in capsys.readouterr().out
    make_study(source, "gpu-a")
    assert main([str(source), "--into", str(into)]) == 0
    assert len(load_studies(into).frame) > 3
    assert read_json(copy / "tracking.json") == {"mlflow": {"run": "1"}}


def test_another_study_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same host, name and second, but other runs: a machine that was set up anew."""
    source, into = tmp_path / "a", tmp_path / "all"
    study = make_study(source, "gpu-a")
    assert main([str(source), "--into", str(into)]) == 0
    (copy,) = (into / "numa_study").rglob("results.json")
    kept = files(copy.parent)
    records = read_json(study / "results.json")
    records[0]["start_time"] = "2027-01-01T00:00:00.000+00:00"
    write_json(study / "results.json", records)
    assert main([str(source), "--into", str(into)]) == 1
    assert "holds a different study; choose another --into" in capsys.readouterr().err
    assert files(copy.parent) == kept


def test_an_interrupted_copy_is_no_study_and_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, into = tmp_path / "a", tmp_path / "all"
    make_study(source, "gpu-a")
    real = shutil.copy2
    copied: list[str] = []

    def copy_some(path: Path, to: Path) -> None:
        if len(copied) == 5:
            to.write_text("half")
            raise KeyboardInterrupt
        copied.append(path.name)
        real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", copy_some)
        with pytest.raises(KeyboardInterrupt):
            main([str(source), "--into", str(into)])
    assert not (into / "numa_study").exists()
    with pytest.raises(StoreError, match=r"no study is there"):
        load_studies(into)
    again: list[str] = []

    def note(path: Path, to: Path) -> None:
        again.append(path.name)
        real(path, to)

    monkeypatch.setattr(shutil, "copy2", note)
    assert main([str(source), "--into", str(into)]) == 0
    (listed,) = (into / "numa_study").rglob("collected.json")
    assert len(again) == len(read_json(listed)["files"]) - 5
    assert files(listed.parent) == read_json(listed)["files"]


def test_a_copy_that_differs_from_its_source_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, into = tmp_path / "a", tmp_path / "all"
    make_study(source, "gpu-a")
    real = LocalSource.copy_files

    def damage(self: LocalSource, below: str, to: Path, checksums: dict[str, str]) -> None:
        real(self, below, to, checksums)
        (to / "results.json").write_text("[]")

    monkeypatch.setattr(LocalSource, "copy_files", damage)
    assert main([str(source), "--into", str(into)]) == 1
    assert "1 files differ from their source after 2 copies, such as results.json" in (
        capsys.readouterr().err
    )
    assert not (into / "numa_study").exists()


def test_a_sweep_stays_one_sweep(tmp_path: Path) -> None:
    sweep = tmp_path / "a" / "multirun" / "numa_study" / "2026-01-31_14-30-15"
    for job in ("0", "1"):
        make_study(tmp_path / "spare" / job, "gpu-a").rename(_below(sweep, job))
    (sweep / "multirun.yaml").write_text("hydra: {}\n")
    assert main([str(tmp_path / "a"), "--into", str(tmp_path / "all")]) == 0
    target = tmp_path / "all" / "multirun" / "numa_study" / "gpu-a" / sweep.name
    assert sorted(p.name for p in target.iterdir()) == ["0", "1", "collected.json", "multirun.yaml"]
    assert len(load_studies(tmp_path / "all", "numa_study").studies) == 2


def _below(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory / name


@pytest.mark.parametrize("summary", ["{}", "[]", "{", json.dumps({"study": "../x"})])
def test_a_study_without_name_or_host_is_refused(
    tmp_path: Path, summary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(tmp_path / "a", "gpu-a")
    (study / "experiment_summary.json").write_text(summary)
    assert main([str(tmp_path / "a"), "--into", str(tmp_path / "all")]) == 1
    assert "does not name study and host" in capsys.readouterr().err


def test_two_collects_do_not_mix_their_files(tmp_path: Path) -> None:
    make_study(tmp_path / "a", "gpu-a")
    (part,) = collect.list_parts(LocalSource(tmp_path / "a"))
    staging = tmp_path / "all" / ".collect" / collect._key(str(tmp_path / "a"), part.path)
    staging.parent.mkdir(parents=True)
    with collect._alone(staging), pytest.raises(StoreError, match="another collect"):
        collect.collect_source(str(tmp_path / "a"), tmp_path / "all", collect.Tally())
