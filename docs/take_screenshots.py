"""Take the pictures of the page in docs/images from a running server, in the Chromium of this machine.

    make serve                                   # in another terminal: the built-in model
    python docs/take_screenshots.py              # or: python docs/take_screenshots.py http://127.0.0.1:9000

Every picture shows real answers of that server. Needs Playwright (a test dependency) and `chromium` on the PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

HERE = Path(__file__).parent
SAMPLES, IMAGES = HERE / "samples", HERE / "images"
ANSWER_MS = 180_000


@dataclass(frozen=True)
class Shot:
    """One picture: what is attached and asked, the window, the theme, and what is opened before."""

    name: str
    files: tuple[str, ...]
    question: str
    width_px: int = 1100
    height_px: int = 760
    dark: bool = False
    before: Callable[[Page], None] = lambda page: None


def open_trace(page: Page) -> None:
    page.click("details.seen summary")
    page.locator("details.seen").scroll_into_view_if_needed()


def open_settings(page: Page) -> None:
    page.click("#open-settings")


SHOTS = (
    Shot("page_photo", ("cat.jpg",), "What is this?", before=open_trace),
    Shot("page_photo_dark", ("coffee.jpg",), "Describe the picture in one sentence.", dark=True),
    Shot("page_audio", ("rooster.ogg",), "What do you hear?", before=open_trace),
    Shot("page_points", ("chair.ply",), "What is this?"),
    Shot("page_arithmetic", ("cat.jpg", "dog_bark.ogg"), "What is this?", dark=True),
    Shot("page_phone", ("cat.jpg",), "What is this?", width_px=390, height_px=800),
    Shot("page_phone_dark", ("chair.ply",), "What is this?", width_px=390, height_px=800, dark=True),
    Shot("page_settings", (), "", before=open_settings),
)


def take(browser: Browser, url: str, shot: Shot) -> None:
    """Open the page anew, ask, and save what is seen."""
    scheme = "dark" if shot.dark else "light"
    page = browser.new_page(viewport={"width": shot.width_px, "height": shot.height_px}, color_scheme=scheme)
    page.goto(url)
    expect(page.locator("#status")).to_contain_text("ready", timeout=ANSWER_MS)
    if shot.files:
        page.set_input_files("#files", [SAMPLES / name for name in shot.files])
        expect(page.locator("#attachments li")).to_have_count(len(shot.files))
    if shot.question:
        page.fill("#question", shot.question)
        page.press("#question", "Enter")
        expect(page.locator("article.assistant .actions")).to_have_count(1, timeout=ANSWER_MS)
        expect(page.locator("article .error")).to_have_count(0)
    shot.before(page)
    page.wait_for_function("[...document.images].every(image => image.complete)")
    page.screenshot(path=IMAGES / f"{shot.name}.png")
    page.close()
    print(f"docs/images/{shot.name}.png")


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium on this machine; apt-get install chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses its sandbox to root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        for shot in SHOTS:
            take(browser, url, shot)
        browser.close()


if __name__ == "__main__":
    main()
