"""Two hosts, from study directories to the page, the tables and the terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import load_studies
from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.report.terminal import print_analysis
from numa_bench.analysis.study_analysis import analyse_study
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study

pytestmark = pytest.mark.slow


def test_two_hosts_are_shown_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = scenario("numa_study", one_gpu(), models((32, 0, 512)), numa_nodes=["local", "remote"])
    write_study(tmp_path / "outputs", replace(study, host="gpu-a"))
    other = replace(
        study,
        host="gpu-b",
        machine=replace(study.machine, effect=0.0),
        changes={"nvidia_driver": "560.1"},
        started=study.started.replace(hour=16),
        seed=4,
    )
    write_study(tmp_path / "outputs", other)
    analysis = analyse_study(
        "numa_study", load_studies(tmp_path / "outputs"), profiles=pd.DataFrame(), target=0.02,
        seed=0, created="2026-01-31T15:00:00+00:00", command="analyze.py",
    )  # fmt: skip
    with mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())):
        report = write_report(analysis, tmp_path / "page")
    print_analysis(analysis, tmp_path / "page")

    sentence = "driver 550.54.15 against 560.1"
    printed = capsys.readouterr().out
    assert sentence in printed
    assert "effects by host" in printed
    verdicts = [line for line in printed.splitlines() if line.startswith(("gpu-a: ", "gpu-b: "))]
    assert [line[:5] for line in verdicts] == ["gpu-a", "gpu-b"]
    assert "costs vit32x0" in verdicts[0]
    assert "costs" not in verdicts[1]
    page = report.page.read_text()
    assert 'id="hosts"' in page
    assert sentence in page
    table = pd.read_csv(tmp_path / "page" / "tables" / "hosts.csv")
    assert table["name"].tolist() == ["gpu-a", "gpu-b"]
    assert table["claimed"].tolist() == [True, False]
    verdict = json.loads(report.verdict.read_text())
    assert verdict["hosts"]["texts"] == [line for line in printed.splitlines() if sentence in line]
