"""The page in real Chromium, from disk and without a network: nothing is cut, nothing is loaded, all is legible."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from rich.console import Console

from evals.report import build
from evals.report.contents import read_contents
from evals.report.figures import figures
from tests.support.evaluations import HOSTILE, LABELS, gate_of, write_run

pytestmark = pytest.mark.integration
WIDTHS = (360, 1280, 1920)
UNBROKEN = "a_label_without_a_single_place_to_break_it_" * 3
# Elements that are wider than their box, and whether each is one that may scroll.
WIDER = """() => [...document.querySelectorAll('html, body, body *')]
  .filter(e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => [e.tagName + '.' + e.className, e.classList.contains('scroll')])"""
# Elements that reach beyond their nearest box that may scroll, or beyond the page.
OUTSIDE = """() => [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.tagName + '.' + e.className)"""
IMAGES = "() => [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"


@pytest.fixture(scope="module", params=["long labels", "hostile text"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five models over every suite, with verdicts of every kind."""
    path = tmp_path_factory.mktemp("run")
    hostile = f" {HOSTILE} {UNBROKEN}" if request.param == "hostile text" else ""
    labels = tuple(f"{label}{hostile}" for label in LABELS)
    gate = gate_of(["model-3.chat"], "model-2.chat", ["PASS", "INCONCLUSIVE"], hostile)
    gate |= gate_of(["model-4.chat"], "model-2.chat", ["PASS", "FAIL", "INCONCLUSIVE"], hostile)
    build(write_run(path, labels, 60, large=1000, gate=gate, text=hostile), Console(quiet=True))
    return path


def opened(browser: Browser, folder: Path, width: int) -> tuple[Page, list[str], list[str]]:
    """The page with its requests and its complaints."""
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    return page, requests, complaints


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_and_nothing_is_loaded(browser: Browser, folder: Path, width: int) -> None:
    page, requests, complaints = opened(browser, folder, width)
    try:
        page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
        wider: list[tuple[str, bool]] = page.evaluate(WIDER)
        assert [name for name, may_scroll in wider if not may_scroll] == []
        if width > 360:
            assert wider == [], "tables scroll on a phone alone"
        assert page.evaluate(OUTSIDE) == []
        images: list[tuple[bool, int, int]] = page.evaluate(IMAGES)
        assert len(images) >= 10
        for complete, natural, shown in images:
            assert complete
            assert natural > 0
            assert 10.5 * shown / 360 >= 9, "the smallest letters of a picture have 9 px"
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        assert sum(url.startswith("file:") for url in requests) == 1
        assert complaints == []
    finally:
        page.context.close()


def test_the_first_column_stays_while_the_table_scrolls(browser: Browser, folder: Path) -> None:
    page, _, _ = opened(browser, folder, 360)
    try:
        moved: Any = page.evaluate("""() => {
          const box = document.querySelector('.scroll'), cell = box.querySelector('tbody td');
          const before = cell.getBoundingClientRect().left;
          box.scrollLeft = 200;
          return [box.scrollLeft, cell.getBoundingClientRect().left - before];
        }""")
        assert moved[0] == 200
        assert abs(moved[1]) < 1
    finally:
        page.context.close()


def test_no_text_of_a_picture_leaves_it(browser: Browser, folder: Path) -> None:
    page = browser.new_context(offline=True).new_page()
    try:
        for figure in figures(read_contents(folder)):
            page.set_content(base64.b64decode(figure.picture.uri.partition(",")[2]).decode())
            outside: list[str] = page.evaluate("""() => {
              const box = document.querySelector('svg').viewBox.baseVal;
              return [...document.querySelectorAll('text')].filter(t => { const b = t.getBBox();
                return b.x < -0.5 || b.y < -0.5 || b.x + b.width > box.width + 0.5 || b.y + b.height > box.height + 0.5;
              }).map(t => t.textContent);
            }""")
            assert outside == [], figure.title
    finally:
        page.context.close()
