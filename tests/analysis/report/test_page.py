"""The page in a real browser: it loads, sorts, filters, fits a telephone, and lets nothing in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.analyses import analysed, reported

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
]

#: Pairs of blocks of text or pictures that overlap although neither contains the other.
_OVERLAPS = """() => {
  const chosen = "h1,h2,h3,p,ul,dl,nav a,figure .card,figcaption,summary,.scroll,pre,.sign," +
    ".controls label";
  const boxes = Array.from(document.querySelectorAll(chosen))
    .filter((e) => e.checkVisibility() && !e.closest(".scroll") || e.matches(".scroll"))
    .map((e) => [e, e.getBoundingClientRect()]).filter(([, r]) => r.width && r.height);
  const pairs = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, p] = boxes[i], [b, q] = boxes[j];
    if (a.contains(b) || b.contains(a)) continue;
    const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (x > 1 && y > 1) pairs.push([a.outerHTML.slice(0, 80), b.outerHTML.slice(0, 80)]);
  }
  return pairs;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Seen:
    """An open page and everything that went wrong on it."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.set_default_timeout(10_000)
        self.messages: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")

    def _dismiss(self, dialog: Any) -> None:
        self.messages.append(dialog.message)
        dialog.dismiss()

    def column(self, label: str) -> list[str]:
        """The texts of a column of the runs that are shown."""
        script = """(label) => {
          const table = document.getElementById("runs-table");
          const heads = Array.from(table.tHead.rows[0].cells, (c) => c.textContent.trim());
          const at = heads.indexOf(label);
          return Array.from(table.tBodies[0].rows).filter((r) => !r.hidden)
            .map((r) => r.cells[at].dataset.v ?? r.cells[at].textContent.trim());
        }"""
        texts: list[str] = self.page.evaluate(script, label)
        return texts

    def head(self, label: str) -> Any:
        return self.page.locator(
            "#runs-table th", has=self.page.get_by_role("button", name=label, exact=True)
        )


@pytest.fixture
def server(browser: Any) -> Iterator[Seen]:
    seen = Seen(browser, reported("server8").page)
    yield seen
    assert seen.messages == []
    seen.page.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["one_gpu", "hostile", "laptop"])
def test_it_fits_and_nothing_overlaps(browser: Any, kind: str, width: int) -> None:
    seen = Seen(
        browser, reported(kind, pictures=True).page, width, "dark" if width == 390 else "light"
    )

    seen.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")

    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(_OVERLAPS) == []
    assert seen.messages == []
    seen.page.close()


@pytest.mark.parametrize("kind", ["one_gpu", "hostile"])
def test_pictures_load_and_nothing_is_fetched(browser: Any, kind: str) -> None:
    seen = Seen(browser, reported(kind, pictures=True).page)

    widths = seen.page.evaluate("Array.from(document.images, (i) => i.complete && i.naturalWidth)")

    assert len(widths) >= 6
    assert all(width > 100 for width in widths)
    assert {url.partition(":")[0] for url in seen.asked} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in seen.asked) == 1
    assert seen.messages == []
    seen.page.close()


def test_the_table_sorts_by_numbers_and_back(server: Seen) -> None:
    server.head("samples/s").get_by_role("button").click()
    up = server.column("samples/s")
    assert server.head("samples/s").get_attribute("aria-sort") == "ascending"
    server.head("samples/s").get_by_role("button").click()
    down = server.column("samples/s")
    assert server.head("samples/s").get_attribute("aria-sort") == "descending"

    measured = [float(v) for v in up if v]
    absent = len(up) - len(measured)
    assert absent == 2  # a failed run and one that ran out of time: last, either way
    assert measured == sorted(measured)
    assert up[-absent:] == down[-absent:] == [""] * absent
    assert [float(v) for v in down if v] == measured[::-1]


def test_the_table_sorts_from_the_keyboard_and_by_names(server: Seen) -> None:
    server.head("device").get_by_role("button").focus()
    server.page.keyboard.press("Enter")

    devices = server.column("device")

    assert devices == sorted(devices)
    assert devices[0] == "GPU 0 (node 0)"
    assert server.page.locator("#runs-table th[aria-sort]").count() == 1


def test_the_table_filters_by_words_and_status(server: Seen) -> None:
    frame = analysed("server8").loaded.frame
    everything = len(server.column("status"))
    assert everything == len(frame)

    server.page.get_by_label("Find").fill("REMOTE, gpu 3")
    found = server.column("device")
    wanted = frame[(frame["placement"] == "remote") & (frame["gpu_id"] == 3)]
    assert len(found) == len(wanted)
    assert set(found) == {"GPU 3 (node 1)"}
    assert server.page.get_by_role("status").inner_text() == f"{len(found)} of {everything} runs"

    server.page.get_by_label("Find").fill("")
    server.page.get_by_label("Status").select_option("invalid")
    assert server.column("status") == ["invalid"]

    server.page.get_by_label("Find").fill("no such run")
    assert server.column("status") == []


def test_names_of_a_study_do_nothing(browser: Any) -> None:
    seen = Seen(browser, reported("hostile", pictures=True).page)

    assert seen.page.locator("b").count() == 0
    assert seen.page.locator("script").count() == 1
    assert "<script>alert(1)</script>" in seen.page.locator("main").inner_text()
    assert seen.messages == []
    seen.page.close()


def test_it_prints(browser: Any) -> None:
    seen = Seen(browser, reported("server8").page)
    seen.page.emulate_media(media="print")

    assert not seen.page.locator("#runs-table").is_visible()
    assert seen.page.get_by_text("All runs are in tables/runs.csv").is_visible()
    assert seen.page.pdf().startswith(b"%PDF")
    seen.page.close()
