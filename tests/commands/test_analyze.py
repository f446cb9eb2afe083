"""analysis/analyze.py on the command line: the page, the verdict, mistakes in one line."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from numa_bench.analysis import load_runs
from numa_bench.analysis.settings import AnalysisConfig
from tests.analysis.stats.made_up import QUIET
from tests.conftest import PROJECT
from tests.fake_scenarios import numa_study, one_gpu, write_kind
from tests.fake_study import again, write_study

pytestmark = pytest.mark.slow

APP = PROJECT / "analysis" / "analyze.py"


def app(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(APP), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with two studies below outputs/, before and after a change."""
    root = tmp_path_factory.mktemp("home")
    write_kind(root / "outputs", "before_after")
    (root / "empty").mkdir()
    (root / "empty" / "results.json").write_text("[]")
    return root


def studies(home: Path) -> list[Path]:
    """Their directories, the earlier one first."""
    return sorted(path.parent for path in (home / "outputs").rglob("results.json"))


def only_page(home: Path, name: str) -> Path:
    (page,) = home.glob(f"outputs/analysis/{name}/*/report.html")
    return page


def test_one_command_gives_a_page_plots_tables_and_the_verdict(home: Path) -> None:
    before, _ = studies(home)

    done = app(home, f"results=[{before}]", "track=false")

    assert done.returncode == 0, done.stderr
    page = only_page(home, "selection")
    verdict = json.loads((page.parent / "verdict.json").read_text())
    assert verdict["study_verdicts"][0]["text"] in done.stdout
    assert str(page.relative_to(home)) in done.stdout
    for suffix in ("png", "svg"):
        assert list((page.parent / "plots").glob(f"*.{suffix}"))
    for table in (page.parent / "tables").glob("*.csv"):
        with table.open(newline="") as file:
            assert next(csv.reader(file))
    assert (page.parent / "config_resolved.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment_name=nothing"], "no results.json of it below outputs; choose one of "),
        (["root=elsewhere"], "root=elsewhere: no study is there; give the output.root"),
        (["experiment_name=../x"], "experiment_name=../x: is not the name of a study"),
        (["results=[nowhere.json]"], "results=nowhere.json: no such file"),
        (["results=[empty]"], "no run to analyse: "),
        (["compare=[a]"], "name two studies or more: compare=[before1,before2,after]"),
        (["compare=[a,b]"], "compare=a: "),
        (["compare=[before_after,missing,before_after]"], "compare=missing: no results.json of it"),
        (["compare=[empty,before_after]"], "compare=empty: no "),
        (
            ["compare=[outputs/before_after/*,before_after]"],
            "has a study that before_after has too",
        ),
        (["fail_on_regression=3"], "fail_on_regression=3.0: needs studies to compare"),
        (["target_percent=0"], "target_percent=0.0: must be above 0"),
        (["seed=-1"], "seed=-1: must be at least 0"),
        (["format=html"], "format=html: must be text or markdown"),
        (["date_from=yesterday", "experiment_name=all"], "date_from=yesterday: not a day"),
        (["models=[none_of_these]", "experiment_name=all"], "none of "),
        (["sed=1"], "sed: unknown key; did you mean seed?"),
        (["+sed=1"], "sed: unknown key; did you mean seed?"),
        (["seed=a"], "seed=a: expected int"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    home: Path, words: list[str], message: str
) -> None:
    before = sorted(home.rglob("*"))

    done = app(home, *words)

    assert done.returncode == 2, done.stderr + done.stdout
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(home.rglob("*")) == before


def test_a_regression_ends_with_1_and_the_page_is_there(home: Path) -> None:
    before, after = studies(home)
    # Two models show it, and draw a third of the figures.
    words = [f"compare=[{before},{after}]", "track=false", "models=[vit32x0,vit32x2x128]"]
    allowed = app(home, *words, "fail_on_regression=60")
    refused = app(home, *words, "fail_on_regression=1")
    turned = app(home, f"compare=[{after},{before}]", *words[1:], "fail_on_regression=1")

    assert allowed.returncode == 0, allowed.stderr
    assert refused.returncode == 1, refused.stderr + refused.stdout
    assert refused.stderr.startswith("error: ")
    assert turned.returncode == 0, turned.stderr
    pages = list(home.glob("outputs/analysis/compare/*/report.html"))
    assert pages


def test_several_studies_before_are_named_one_by_one_or_by_a_pattern(tmp_path: Path) -> None:
    first = replace(numa_study(one_gpu(), noise=QUIET), raw=0)
    noon = first.started
    for day in range(4):
        machine = replace(first.machine, speedup=1.0 + day / 1000)
        write_study(
            tmp_path / "before",
            replace(first, machine=machine, seed=day, started=noon + timedelta(days=day)),
        )
    slower = replace(first.machine, speedup=0.9)
    write_study(tmp_path / "after", again(first, machine=slower))
    wanted = ["track=false", "models=[vit32x0,vit32x2x128]", "fail_on_regression=3"]

    done = app(tmp_path, "compare=[before/numa_study/*/*,after]", *wanted, "root=nowhere")

    assert done.returncode == 1, done.stderr + done.stdout
    assert "1 day after against 4 days before: all together 10." in done.stdout
    assert re.search(r"Days differ by 0\.\d %", done.stdout)
    (path,) = (tmp_path / "nowhere").glob("analysis/compare/*/verdict.json")
    comparison = json.loads(path.read_text())["comparison"]
    assert comparison["regressed"]
    assert comparison["common_shift"]["regression"]
    assert comparison["common_shift"]["days_base"] == 4
    assert comparison["common_shift"]["day_freedom"] == 3
    assert comparison["text"] in done.stdout
    assert all(line in done.stdout for line in comparison["details"])
    page = (path.parent / "report.html").read_text()
    assert "beyond the shift" in page
    assert comparison["details"][0] in page


def test_hosts_are_read_one_after_the_other(tmp_path: Path) -> None:
    for number, host in enumerate(("gpu-a", "gpu-b")):
        study = numa_study(one_gpu(), effect=0.3 * number, host=host, noise=QUIET)
        write_study(tmp_path / "outputs" / host, study)

    done = app(tmp_path, "experiment_name=all", "partition_by=host")
    assert done.returncode == 0, done.stderr
    whole = app(tmp_path, "experiment_name=all", "track=false")
    assert whole.returncode == 0, whole.stderr

    first, second = sorted(tmp_path.glob("outputs/analysis/all/*/verdict.json"))
    partly, everything = json.loads(first.read_text()), json.loads(second.read_text())
    assert partly["hosts"]["texts"] == everything["hosts"]["texts"] != []
    assert partly["hosts"]["texts"][0] in done.stdout
    assert sorted(v["name"] for v in partly["verdicts"]) == ["gpu-a", "gpu-b"]
    for name in ("hosts.csv", "groups.csv"):
        read = [(path.parent / "tables" / name).read_text() for path in (first, second)]
        assert sorted(read[0].splitlines()) == sorted(read[1].splitlines())

    refused = app(tmp_path, "partition_by=host", "format=markdown")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: format=markdown: cannot be combined with partition_by")


def test_settings_are_documented_and_shown(home: Path) -> None:
    shown = app(home, "--help").stdout
    page = (PROJECT / "docs" / "analysis.md").read_text()

    for setting in fields(AnalysisConfig):
        assert f"{setting.name}=" in shown
        assert f"`{setting.name}`" in page
        assert setting.metadata["help"].endswith(".")


def test_the_documented_way_to_load_runs_works(tmp_path: Path) -> None:
    """docs/analysis.md: load_runs is public."""
    text = (PROJECT / "docs" / "analysis.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    write_study(tmp_path / "outputs", numa_study(one_gpu()))

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"^local +\d+\.\d+\nremote +\d+\.\d+$", done.stdout, re.M)


def test_the_documented_columns_of_load_runs_are_there(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "analysis.md").read_text().partition("| column | meaning |")[2]
    names = {
        n for row in re.findall(r"^\| (`.*?) \|", text, re.M) for n in re.findall(r"`(\w+)`", row)
    }

    runs = load_runs([write_study(tmp_path, numa_study(one_gpu()))])

    assert len(names) >= 10
    assert names <= set(runs.columns)


def test_composing_does_not_wait_for_pandas(home: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(APP), "--cfg", "job"],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "target_percent: 2.0" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
