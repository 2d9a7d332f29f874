"""A headless Chromium of this machine, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NEEDED = bool(os.environ.get("TEST_BROWSER_REQUIRED"))  # .ci/run sets it: there a missing browser is a failure
SILENT_DEVICES = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not NEEDED, reason="no Chromium on this machine; apt-get install chromium runs these tests"
)


@contextmanager
def open_page(url: str, *, width: int = 1100, height: int = 800) -> Iterator[Page]:
    """Open a page with a fake microphone and camera; leaving the block fails on a script error or a foreign request."""
    errors: list[str] = []
    foreign: list[str] = []
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses its sandbox to root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, *SILENT_DEVICES])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: _note_foreign(request.url, url, foreign))
            page.goto(url)
            yield page
            assert not errors, f"scripts failed: {errors}"
            assert not foreign, f"the page called others: {foreign}"
        finally:
            browser.close()


def _note_foreign(asked: str, own: str, foreign: list[str]) -> None:
    if not asked.startswith((own, "blob:", "data:")):
        foreign.append(asked)
