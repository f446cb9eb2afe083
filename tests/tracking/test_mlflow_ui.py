"""What a newcomer sees behind the printed `mlflow ui` line, in a real browser."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from numa_bench.jsonio import read_json
from tests.fake_worker import fake_command, wait_until
from tests.tracking.test_tracking import answers, free_port, mlflow_at, run_tracked, runs_of

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


@contextlib.contextmanager
def ui(line: str, port: int, cwd: Path) -> Iterator[str]:
    """The server that the printed command starts."""
    words = shlex.split(line)
    assert words[:2] == ["mlflow", "ui"]
    assert words[-2:] == ["--host", "127.0.0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port), "--workers", "1"],
        cwd=cwd,  # it makes a directory for artifacts there
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), "the MLflow UI", 300)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_ui_shows_the_study_its_runs_and_a_metric(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: Any,
) -> None:
    monkeypatch.setattr(
        "numa_bench.runner.worker_run.worker_command", fake_command({"m0": "good", "m1": "raises"})
    )
    directory = tmp_path / "outputs" / "fake" / "2026-01-31" / "14-30-15"
    directory.mkdir(parents=True)
    run_tracked(directory, mlflow_at(f"sqlite:///{tmp_path}/mlflow.db"), "m0", "m1")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    (number,) = [n for n, x in enumerate(lines) if x.startswith("tracking  mlflow ui ")]
    line, address = lines[number], lines[number + 1].strip()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    ((parent,), children) = runs_of(uri)
    good = next(run for run in children if run.data.tags["status"] == "passed")
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))

    def look(name: str) -> None:
        page.screenshot(path=str(shots / f"{name}.png"))

    with ui(line.removeprefix("tracking  "), free_port(), tmp_path) as url:
        experiment = f"{url}/#/experiments/{parent.info.experiment_id}"
        page.goto(f"{experiment}/runs")
        page.get_by_text("fake 2026-01-31 14-30-15").first.wait_for(timeout=60_000)
        look("runs")
        page.goto(f"{experiment}/runs/{parent.info.run_id}")
        page.get_by_text("success_rate").first.wait_for(timeout=60_000)
        page.get_by_text("Only runs that passed are counted").first.wait_for(timeout=60_000)
        look("study")
        page.goto(f"{experiment}/runs/{good.info.run_id}/model-metrics")
        page.get_by_text("compute_ms").first.wait_for(timeout=60_000)
        page.locator("svg.main-svg, .js-plotly-plot").first.wait_for(timeout=60_000)
        look("run")
        # Exactly what is printed, but for the port. Last, as MLflow keeps the view of a page.
        page.set_viewport_size({"width": 2400, "height": 1000})  # else columns are not drawn
        page.goto(address.replace("http://127.0.0.1:5000", url))
        for run in children:
            page.get_by_text(run.info.run_name, exact=True).first.wait_for(timeout=60_000)
        for column in ("throughput_samples_per_s", "placement", "vit.name", "status"):
            page.locator(".ag-header").get_by_text(column, exact=True).first.wait_for()
        assert page.get_by_text("fake 2026-01-31 14-30-15").count() == 0  # its runs alone
        look("printed")

    assert len(read_json(directory / "results.json")) == 2
