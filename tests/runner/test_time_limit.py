"""A study with a time limit: what runs, what is said about the rest, and how it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from numa_bench.plan.plan import Plan
from numa_bench.plan.time_limit import StudyClock, TimeLimit
from numa_bench.records import Execution, Record, RunSpec, Status, make_record
from numa_bench.runner.display.time_limits import describe_limit
from numa_bench.runner.resume import check_directory
from numa_bench.runner.study import run_study
from tests.fake_worker import TOPOLOGY, make_plan


class Runs:
    """In place of real runs: each takes so many seconds of a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.ids: list[str] = []

    def clock(self) -> float:
        return self.now

    def attempt(self, spec: RunSpec, **_: Any) -> Record:
        self.now += self.seconds
        self.ids.append(spec.run_id)
        ended = Execution(Status.PASSED, 0, None, "2026-01-31", self.seconds, 1, "out", "err")
        return make_record(spec, None, ended, "host")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs of ten seconds."""
    made = Runs(10.0)
    monkeypatch.setattr("numa_bench.runner.study.attempt_run", made.attempt)
    monkeypatch.setattr(
        "numa_bench.runner.study.StudyClock",
        lambda limit, size, earlier, _: StudyClock(limit, size, earlier, made.clock),
    )
    return made


def limited(limit_s: float | None, repeats: int = 5, kept: int | None = None) -> Plan:
    """Blocks of two runs that are expected to take 16 s."""
    plan = make_plan(["m0", "m1"], repeats=repeats)
    if limit_s is None:
        return plan
    kept = repeats if kept is None else kept
    return replace(plan, time_limit=TimeLimit(limit_s, repeats, kept, 16.0)).cut_after(kept)


study = partial(run_study, topology=TOPOLOGY)


def test_blocks_that_do_not_fit_are_cut_and_are_no_failures(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = limited(50.0)

    study(plan, directory=tmp_path)

    assert runs.ids == [run.run_id for run in plan.runs[:4]]
    summary = read_json(tmp_path / "experiment_summary.json")
    assert summary["planned"] == 4
    assert summary["success_rate"] == 1.0
    cut = {name: summary["time_limit"][name] for name in ("limit_s", "kept_repeats", "cut_runs")}
    assert cut == {"limit_s": 50.0, "kept_repeats": 2, "cut_runs": 6}
    shown = capsys.readouterr().out
    assert "4 passed of 4 planned" in shown
    assert "2 of 5 repeats fit into 50 s: took 40 s" in shown
    assert f"resume_from={tmp_path} time_limit=null" in shown


def test_the_first_block_runs_whole(runs: Runs, tmp_path: Path) -> None:
    study(limited(5.0), directory=tmp_path)

    assert len(runs.ids) == 2


def test_without_a_limit_everything_runs(runs: Runs, tmp_path: Path) -> None:
    study(limited(None), directory=tmp_path)

    assert len(runs.ids) == 10
    assert read_json(tmp_path / "experiment_summary.json")["time_limit"] is None


def test_a_resumed_study_without_limit_runs_what_was_cut(runs: Runs, tmp_path: Path) -> None:
    study(limited(50.0), directory=tmp_path)
    study(limited(50.0), directory=tmp_path)
    assert len(runs.ids) == 4  # the limit is that of all starts together

    study(limited(None), directory=tmp_path)

    assert runs.ids == [run.run_id for run in limited(None).runs]


def test_a_shorter_limit_does_not_disown_what_was_measured(runs: Runs, tmp_path: Path) -> None:
    study(limited(None), directory=tmp_path)
    shorter = replace(limited(20.0, kept=1), resume_from=str(tmp_path))

    check_directory(tmp_path, shorter, ["experiment.repeats=5", "time_limit=20"])
    study(shorter, directory=tmp_path)

    assert len(runs.ids) == 10


def test_what_is_planned_is_said_before_it_runs() -> None:
    assert describe_limit(limited(None)) == []
    assert describe_limit(limited(80.0)) == []
    (line,) = describe_limit(limited(60.0, kept=3))
    assert line.startswith("3 of 5 repeats fit into 60 s: about ")
    fits, _, exceeded = describe_limit(limited(15.0, kept=1))
    assert fits.startswith("1 of 5 repeats fits into 15 s: about ")
    assert exceeded == "one repeat takes about 16 s, longer than the limit of 15 s; it runs whole"


def test_too_few_repeats_for_a_verdict_are_warned_about() -> None:
    plan = limited(40.0, kept=2)

    _, before = describe_limit(plan)
    _, after = describe_limit(plan, took_s=35.0)

    assert before == (
        "fewer than 3 repeats give no verdict; for 3 use time_limit=1m, or fewer models or "
        "placements"
    )
    assert after == "fewer than 3 repeats give no verdict"
    (fits,) = describe_limit(limited(20.0, repeats=2, kept=1))  # fewer were asked for anyway
    assert fits.startswith("1 of 2 repeats fits")


# --- extensions: what the summary remembers of them


def history_in(directory: Path) -> list[int]:
    history: list[int] = read_json(directory / "experiment_summary.json")["repeats_history"]
    return history


def test_repeats_that_are_added_to_a_complete_study_are_remembered(
    runs: Runs, tmp_path: Path
) -> None:
    for repeats, history in ((5, [5]), (5, [5]), (10, [5, 10]), (3, [5, 10]), (15, [5, 10, 15])):
        study(limited(None, repeats=repeats), directory=tmp_path)

        assert history_in(tmp_path) == history
    assert len(runs.ids) == 2 * 15


def test_finishing_what_was_planned_is_no_extension(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def kill_after(count: int) -> None:
        def attempt(spec: RunSpec, **context: Any) -> Record:
            if len(runs.ids) == count:
                raise KilledError
            return runs.attempt(spec, **context)

        monkeypatch.setattr("numa_bench.runner.study.attempt_run", attempt)

    kill_after(7)
    with pytest.raises(KilledError):
        study(limited(None, repeats=5), directory=tmp_path)
    assert history_in(tmp_path) == [5]
    # Its results were not complete, so more repeats are another plan and no second look.
    kill_after(13)
    with pytest.raises(KilledError):
        study(limited(None, repeats=7), directory=tmp_path)
    assert history_in(tmp_path) == [7]
    kill_after(-1)
    study(limited(None, repeats=7), directory=tmp_path)
    assert history_in(tmp_path) == [7]
    kill_after(15)
    with pytest.raises(KilledError):
        study(limited(None, repeats=9), directory=tmp_path)
    kill_after(-1)
    study(limited(None, repeats=9), directory=tmp_path)

    assert history_in(tmp_path) == [7, 9]


@pytest.mark.usefixtures("runs")
def test_running_what_a_time_limit_cut_is_a_second_look(tmp_path: Path) -> None:
    study(limited(60.0), directory=tmp_path)
    assert history_in(tmp_path) == [3]
    study(limited(60.0), directory=tmp_path)
    assert history_in(tmp_path) == [3]

    study(limited(None), directory=tmp_path)

    assert history_in(tmp_path) == [3, 5]


@pytest.mark.usefixtures("runs")
def test_a_study_from_before_the_history_was_kept_is_extended_from_what_it_has(
    tmp_path: Path,
) -> None:
    study(limited(None, repeats=5), directory=tmp_path)
    summary = read_json(tmp_path / "experiment_summary.json")
    del summary["repeats_history"]
    (tmp_path / "experiment_summary.json").write_text(json.dumps(summary))

    study(limited(None, repeats=6), directory=tmp_path)

    assert history_in(tmp_path) == [5, 6]
