"""analysis/analyze.py format=markdown: stdout has the block and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from omegaconf import OmegaConf

from numa_bench.analysis.settings import AnalysisConfig, check_settings
from numa_bench.commands.analyze import write_analysis
from numa_bench.errors import ConfigError
from numa_bench.records import Status
from tests.analyses import scenario
from tests.fake_scenarios import models, one_gpu
from tests.fake_study import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a failed run and a missing file."""
    wanted = scenario("numa_study", one_gpu(), models((32, 0, 512)), 3)
    path = write_study(tmp_path_factory.mktemp("root"), replace(wanted, bad={0: Status.FAILED}))
    (path / "topology.json").unlink()
    return path


def analyse(study: Path, directory: Path, **changes: object) -> None:
    """The application in this process, without its plots; a tracker that fails has a note."""
    config = AnalysisConfig(results=[str(study)], **changes)  # type: ignore[arg-type]
    wanted = check_settings(OmegaConf.structured(config), [])
    directory.mkdir(exist_ok=True)
    with (
        mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())),
        mock.patch(
            "numa_bench.commands.tracker_upload.upload_report", return_value="tracking  note"
        ),
    ):
        write_analysis(wanted, directory)


@pytest.mark.slow
def test_stdout_has_only_the_block(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analyse(study, tmp_path, format="markdown")

    out, err = capsys.readouterr()
    assert out == (tmp_path / "report.md").read_text()
    assert out.startswith("### NUMA benchmark, numa_study\n")
    assert (tmp_path / "report.html").is_file()
    for note in ("tracking  note", "1 failed", "topology.json: is missing", "report.html"):
        assert note in err


@pytest.mark.slow
def test_the_block_is_written_whatever_is_printed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analyse(study, tmp_path)

    out, err = capsys.readouterr()
    assert (tmp_path / "report.md").read_text().startswith("### NUMA benchmark")
    assert "### " not in out
    assert "tracking  note" in out
    assert "report.md" in out
    assert err == ""


def test_another_format_is_refused_in_one_line() -> None:
    config = OmegaConf.structured(AnalysisConfig(format="html"))

    with pytest.raises(ConfigError) as caught:
        check_settings(config, [])

    assert str(caught.value) == "format=html: must be text or markdown"
