"""The files of an analysis: verdict, tables that can be read again, a safe page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from numa_bench.analysis.read.runs import Loaded, Problem
from numa_bench.analysis.report.files import write_report
from numa_bench.analysis.report.links import Links
from numa_bench.analysis.report.page import build_headlines
from numa_bench.analysis.report.runs import MOST_RUNS, runs_table
from numa_bench.errors import StoreError
from tests.analyses import KINDS, analysed, reported
from tests.fake_scenarios import HOSTILE


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.mark.slow
def test_the_verdict_for_machines_is_that_of_the_page() -> None:
    report, analysis = reported("one_gpu"), analysed("one_gpu")

    verdict = json.loads(report.verdict.read_text())

    assert verdict["schema_version"] == 1
    assert verdict["name"] == "one_gpu"
    assert verdict["created"] == analysis.created
    assert [v["text"] for v in verdict["study_verdicts"]] == [
        v.text for v in analysis.study_verdicts
    ]
    assert [v["kind"] for v in verdict["verdicts"]] == [v.kind for v in analysis.verdicts]
    assert verdict["groups"][0]["host"] == "gpu-server-1"
    assert verdict["problems"] == []
    assert "comparison" not in verdict
    assert analysis.study_verdicts[0].text in Page(report.page).text


@pytest.mark.slow
def test_a_comparison_is_in_verdict_page_and_tables() -> None:
    report, analysis = reported("before_after"), analysed("before_after")
    assert analysis.comparison is not None

    written = json.loads(report.verdict.read_text())["comparison"]

    assert written["regressed"] is True
    assert written["text"] == analysis.comparison.text
    assert len(written["table"]) == len(analysis.comparison.table)
    assert {row["key"] for row in written["differences"]} >= {"env_nvidia_driver"}
    assert build_headlines(analysis)[0].label == "regression"
    assert analysis.comparison.text in Page(report.page).text
    assert len(pd.read_csv(report.page.parent / "tables/comparison.csv")) == len(written["table"])


@pytest.mark.slow
def test_tables_can_be_read_again() -> None:
    report, analysis = reported("server8"), analysed("server8")

    tables = {path.stem: pd.read_csv(path) for path in report.tables}

    assert len(tables["runs"]) == len(analysis.loaded.frame)
    assert len(tables["cells"]) == len(analysis.cells)
    assert len(tables["effects"]) == len(analysis.effects)
    assert tables["effects"]["ratio"].tolist() == pytest.approx(analysis.effects["ratio"].tolist())
    assert set(tables["excluded"]["status"]) == {"failed", "timeout", "invalid"}
    assert "comparison" not in tables
    warned = tables["runs"]["warnings"].dropna()
    assert warned.tolist() == ["throttled: power cap (in up to 3 readings)", "spread: spans 14%"]


@pytest.mark.slow
def test_pictures_are_written_in_both_formats() -> None:
    report = reported("one_gpu", pictures=True)

    stems = {path.stem for path in report.plots}

    assert {(s, k) for s in stems for k in (".png", ".svg")} == {
        (p.stem, p.suffix) for p in report.plots
    }
    for path in report.plots:
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    images = Page(report.page).all("img")
    assert len(images) == len(stems)
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one_gpu", "hostile"])
def test_the_page_needs_nothing_else(kind: str) -> None:
    report = reported(kind, pictures=True)
    page = Page(report.page)

    sources = [a.get(key, "") for _, a in page.tags for key in ("src", "srcset", "data", "action")]
    assert all(not source or source.startswith("data:") for source in sources)
    assert not page.all("script")[0]
    assert [a["href"] for a in page.all("link")] == ["data:,"]
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert report.page.stat().st_size < 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_study_has_a_page_that_opens_with_a_verdict(kind: str) -> None:
    page = Page(reported(kind).page)

    classes = [a.get("class", "") for a in page.all("section")]

    assert classes[0].startswith("verdict ")
    assert analysed(kind).study_verdicts[0].text in page.text
    assert "None" not in page.text.split("Warm-up continues")[0].replace("None of", "")
    assert "nan" not in page.text.lower().replace("nanosecond", "").split()


@pytest.mark.slow
def test_names_of_a_study_are_text() -> None:
    page = Page(reported("hostile").page)

    names = {tag for tag, _ in page.tags}
    assert not names & {"b", "iframe", "object", "embed", "form", "base", "svg"}
    assert len(page.all("script")) == 1
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert HOSTILE in page.text


def test_only_files_inside_a_study_are_linked() -> None:
    report = reported("hostile")
    study = Path(analysed("hostile").loaded.studies[0].directory).resolve()

    targets = [urlsplit(a["href"]) for a in Page(report.page).all("a") if a["href"][0] != "#"]

    assert targets
    for target in targets:
        assert not target.scheme
        assert not target.netloc
        path = (report.page.parent / unquote(target.path)).resolve()
        assert path.is_file()
        assert path.is_relative_to(study)
    assert any(t.path.endswith(".stdout") for t in targets)
    assert not any(t.path.endswith(".stderr") for t in targets)  # each points out of the study


def test_links_that_lead_out_are_none(tmp_path: Path) -> None:
    study, page = tmp_path / "study", tmp_path / "page"
    (study / "logs").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (study / "out").symlink_to(tmp_path / "secret")
    links = Links(page)

    for path in (
        *(
            "../secret",
            "/etc/passwd",
            "out",
            "logs/../../secret",
            "javascript:alert(1)",
            "http://a/b",
        ),
        *("", ".", "logs", "no/such/file", "a\0b", "x" * 5000, None, 3, float("nan")),
    ):
        assert links.study_url(str(study), path) is None


def test_links_are_quoted_relative_paths(tmp_path: Path) -> None:
    study = tmp_path / "a study"
    study.mkdir()
    name = "javascript:alert('1')?#%\".txt"
    (study / name).write_text("x")

    beside = Links(tmp_path / "page").study_url(str(study), name)
    above = Links(study).study_url(str(study), name)

    assert beside == "../a%20study/javascript%3Aalert%28%271%27%29%3F%23%25%22.txt"
    assert above == "./javascript%3Aalert%28%271%27%29%3F%23%25%22.txt"


@pytest.mark.slow
def test_many_runs_keep_the_page_small(tmp_path: Path) -> None:
    frame = analysed("laptop").loaded.frame
    copies = MOST_RUNS // len(frame) + 1
    many = pd.concat([frame.assign(start_time=f"2026-02-01T00:00:{i:05}") for i in range(copies)])
    many = many.reset_index(drop=True)

    table = runs_table(many, Links(tmp_path))

    assert len(table.rows) == MOST_RUNS
    assert table.left_out == len(many) - MOST_RUNS
    assert table.rows[-1][0].text.endswith(f"{copies - 1:05}"[:2])  # the newest are kept


@pytest.mark.slow
def test_skipped_files_are_listed(tmp_path: Path) -> None:
    analysis = analysed("laptop")
    problem = Problem("outputs/x/results.json", "cannot be read: <broken>")
    loaded = Loaded(analysis.loaded.frame, [problem], analysis.loaded.studies)

    with mock.patch("numa_bench.analysis.report.files.draw_figures", return_value=iter(())):
        report = write_report(replace(analysis, loaded=loaded), tmp_path / "new" / "report")

    assert "cannot be read: <broken>" in Page(report.page).text
    assert json.loads(report.verdict.read_text())["problems"] == [problem.to_dict()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compile", "scaling", "settings"])
def test_the_questions_have_tables(kind: str) -> None:
    report, analysis = reported(kind), analysed(kind)

    assert analysis.questions
    text = Page(report.page).text
    for name, title in {
        "compile": "Is compilation worth it?",
        "scaling": "How does it scale with depth and dim?",
        "batch": "Which batch size?",
        "resolution": "What does resolution cost?",
        "pipeline": "How deep a pipeline?",
        "bandwidth": "How fast are the copies?",
    }.items():
        assert (title in text) == (name in analysis.questions)
    assert {path.stem for path in report.tables} >= set(analysis.questions)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(StoreError, match=r"taken.*cannot be written"):
        write_report(analysed("nothing_passed"), tmp_path / "taken")
