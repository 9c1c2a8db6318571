"""`make pictures`: photograph the pages of a running demo into docs/images.

First `make demo` in another terminal, with a home of its own: simulated labelers rank some answers here, so that the
results page has something to show. Prompts and answers that the world's rules call rude are passed over.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from playwright.sync_api import Page, sync_playwright

from training.artifacts.errors import UserError, run_command
from training.loop import simulate
from training.loop.client import Service
from training.miniature.judge import is_rude

WAIT = 120_000  # ms; engines on a laptop
WIDTH, HEIGHT = 1100, 760
LARGEST = 150_000  # bytes of a picture
RANKED, TRIES = 80, 40
QUESTION = "write a short story about a fox and a bread ."


@dataclass(frozen=True)
class Config:
    """Photograph the pages of a running demo (`make demo`)."""

    url: str = "http://127.0.0.1:8000"
    """Address of the demo's service, which must be open."""
    home: Path = Path("runs")
    """The demo's --home."""
    out: Path = Path(__file__).parent / "images"
    """Folder of the pictures."""
    chromium: str | None = None
    """Path of Chromium; the one on the PATH by default."""


def main(config: Config) -> None:
    """Take all pictures. Raises `UserError` without Chromium, a service, or a report."""
    chromium = config.chromium or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise UserError("no Chromium on this machine: install the package `chromium`")
    report = newest_report(config.home)
    rank(config)
    config.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(WAIT)
        compare(page, config)
        ranking(page, config)
        playground(page, config)
        page.goto(f"{config.url}/results")
        take(page, config, "results")
        page.goto(report.resolve().as_uri())
        take(page, config, "report")
        browser.close()


def newest_report(home: Path) -> Path:
    """The page of the newest evaluation."""
    pages = sorted((home / "reports").glob("*/index.html"), key=lambda path: path.stat().st_mtime)
    if not pages:
        raise UserError(f"no report in {home}/reports: run `make demo` first")
    return pages[-1]


def rank(config: Config) -> None:
    """Let simulated labelers rank, over HTTP like people."""
    command = [sys.executable, "-m", "service", "keys", "add", "pictures", "--scopes", "admin", "--days", "1"]
    key = subprocess.run([*command, "--home", str(config.home)], capture_output=True, text=True, check=True).stdout
    worlds = sorted((config.home / "world").glob("*/world.json"))
    if not worlds:
        raise UserError(f"no world in {config.home}/world: run `make demo` first")
    world = worlds[-1].parent
    prompts, labelers = (
        simulate.load_prompts(world / "prompts-collect.jsonl"),
        simulate.load_labelers(world, "training"),
    )
    simulate.rank_prompts(Service(config.url, key.strip()), prompts[: 2 * RANKED], labelers, RANKED, 4, 0)


def compare(page: Page, config: Config) -> None:
    page.goto(f"{config.url}/compare")
    polite_task(page)
    take(page, config, "compare")


def ranking(page: Page, config: Config) -> None:
    page.goto(f"{config.url}/rank")
    polite_task(page)
    for key in ("2", "1", "3"):
        page.keyboard.press(key)
    take(page, config, "rank")


def playground(page: Page, config: Config) -> None:
    page.goto(f"{config.url}/playground")
    page.wait_for_selector("#model:enabled")
    page.locator("#text").fill(QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector("#log .assistant .text:not(:empty)")
    page.wait_for_selector("#stop", state="hidden")
    take(page, config, "playground", 520)


def polite_task(page: Page) -> None:
    """Skip tasks until prompt and answers are polite, short enough for a picture, and different."""
    for _ in range(TRIES):
        page.wait_for_selector("#desk[data-phase=open]")
        texts = [page.locator("#messages").inner_text(), *page.locator(".response .text").all_inner_texts()]
        if not any(is_rude(text) for text in texts) and len(set(texts)) == len(texts):
            return
        with page.expect_response("**/api/tasks/next"):
            page.keyboard.press("s")
        page.wait_for_timeout(500)
    raise UserError(f"{TRIES} tasks were rude: run it again")


def take(page: Page, config: Config, name: str, height: int = HEIGHT) -> None:
    """Save the top of the page. Raises `UserError` for a picture that is too large for a repository."""
    path = config.out / f"{name}.png"
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    size = path.stat().st_size
    print(f"{path} ({size / 1000:.0f} kB)")
    if size > LARGEST:
        raise UserError(f"{path} has {size} bytes, more than {LARGEST}: show less of the page")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(tyro.cli(Config, prog="python -m docs.pictures", description=__doc__))))
