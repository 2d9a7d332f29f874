"""The page in a real browser against a real server."""

from __future__ import annotations

import io
import json
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from typer.testing import CliRunner

from server.cli import app
from tests.support.browser import needs_browser, open_page
from tests.support.films import film_bytes
from tests.support.live_server import LONG, LiveServer, live_server, picture
from tests.support.tiny_gallery import write_gallery

pytestmark = needs_browser
DONE = "article.assistant .actions"
STOP_AT_FIRST_TEXT = """() => new MutationObserver((_, observer) => {
    if (!document.querySelector("article.assistant .text")?.textContent) return;
    observer.disconnect();
    document.getElementById("stop").click();
}).observe(document.getElementById("thread"), {subtree: true, childList: true, characterData: true})"""


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.sin(np.arange(16_000) / 9) * 9000).astype("<i2").tobytes())
    return file.getvalue()


def cloud() -> bytes:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    return "\n".join(" ".join(f"{value:.4f}" for value in row) for row in rows).encode()


MEDIA = {
    "image": ("red.png", "image/png", picture),
    "audio": ("tone.wav", "audio/wav", sound),
    "video": ("film.mp4", "video/mp4", film_bytes),
    "point_cloud": ("shape.xyz", "", cloud),
}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(default_max_tokens=8) as running:
        yield running


@pytest.fixture
def page(server: LiveServer) -> Iterator[Page]:
    with open_page(server.url) as opened:
        expect(opened.locator("#status")).to_have_text("tiny ready")
        yield opened


def attach(page: Page, *kinds: str) -> None:
    files = [{"name": name, "mimeType": mime, "buffer": make()} for name, mime, make in (MEDIA[k] for k in kinds)]
    page.set_input_files("#files", files)
    expect(page.locator("#attachments li")).to_have_count(len(kinds))


def ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")


def answered(page: Page, count: int = 1) -> None:
    expect(page.locator(DONE)).to_have_count(count)
    expect(page.locator("article .error")).to_have_count(0)


def sent_body(page: Page, question: str) -> dict[str, Any]:
    """Ask and return the JSON that the page sent."""
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, question)
    body: dict[str, Any] = json.loads(asked.value.post_data or "{}")
    return body


@pytest.mark.parametrize("kind", MEDIA)
def test_each_medium_is_previewed_sent_and_answered(page: Page, kind: str) -> None:
    attach(page, kind)
    preview = {"image": "img", "audio": "canvas.wave", "video": "video", "point_cloud": "canvas"}[kind]
    expect(page.locator(f"#attachments .preview {preview}")).to_be_visible()
    ask(page, "What is this?")
    answered(page)
    page.click("details.seen summary")
    expect(page.locator("details.seen li")).to_contain_text("weight 1")
    expect(page.locator("details.seen table")).to_contain_text("embed")


def ask_the_index(route: Route) -> None:
    body = json.loads(route.request.post_data or "{}")
    body["bind"]["cache"] = {"index": "things", "k": 3}
    route.continue_(post_data=json.dumps(body))


def open_neighbours(page: Page) -> Locator:
    """Ask about a picture with the index `things`, and return the neighbours that are shown."""
    page.route("**/v1/chat/completions", ask_the_index)
    attach(page, "image")
    ask(page, "What is this?")
    answered(page)
    page.click("details.seen summary")
    return page.locator(".neighbours figure")


def test_the_neighbours_of_an_index_are_named_with_their_files(tmp_path: Path) -> None:
    index = {"things": write_gallery(tmp_path / "things")}
    with live_server(default_max_tokens=4, cache_indexes=index) as server, open_page(server.url) as page:
        figures = open_neighbours(page)
        expect(figures).to_have_count(3)
        expect(figures.first).to_contain_text(re.compile(r"thing-\d+ \d\.\d\d"))
        expect(figures.first).to_have_attribute("title", re.compile(r"\d+\.png"))
        expect(page.locator("details.seen")).to_contain_text("keeps no pictures")


def test_neighbours_of_an_index_made_of_pictures_are_shown(tmp_path: Path) -> None:
    for number, colour in enumerate([(200, 30, 30), (30, 200, 30), (30, 30, 200)]):
        (tmp_path / f"{number}.png").write_bytes(picture(colour))
    out = tmp_path / "index"
    built = CliRunner().invoke(app, ["cache", "build", str(tmp_path), "--out", str(out), "--model", "tiny"])
    assert built.exit_code == 0, built.output
    options: dict[str, Any] = {"cache_indexes": {"things": out}, "dtype": "bfloat16"}
    with live_server(default_max_tokens=4, **options) as server, open_page(server.url) as page:
        pictures = open_neighbours(page).locator("img")
        expect(pictures).to_have_count(3)
        assert pictures.first.evaluate("image => image.naturalWidth") == 24


def test_a_negative_weight_travels_with_its_part(page: Page) -> None:
    attach(page, "image", "audio")
    page.locator("#attachments input[type=range]").nth(1).fill("-0.5")
    parts = sent_body(page, "What is left?")["messages"][0]["content"]
    assert [part.get("weight") for part in parts[1:]] == [None, -0.5]
    answered(page)


def test_a_point_cloud_turns_by_keys(page: Page) -> None:
    attach(page, "point_cloud")
    canvas = page.locator("#attachments canvas")
    before = canvas.evaluate("c => c.toDataURL()")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    assert canvas.evaluate("c => c.toDataURL()") != before


def test_stop_ends_a_running_reply_and_keeps_what_was_said(server: LiveServer, page: Page) -> None:
    def ask_for_much(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        route.continue_(post_data=json.dumps({**body, "max_tokens": LONG, "ignore_eos": True}))

    page.route("**/v1/chat/completions", ask_for_much)
    page.evaluate(STOP_AT_FIRST_TEXT)
    ask(page, "Talk.")
    expect(page.locator("article.assistant .note")).to_have_text("stopped")
    said = page.locator("article.assistant .text").inner_text()
    assert 0 < len(said) < LONG
    expect(page.locator("#send")).to_be_visible()
    server.wait_until_idle()


def test_retry_asks_the_same_again(page: Page) -> None:
    attach(page, "image")
    first = sent_body(page, "What is this?")["messages"]
    answered(page)
    with page.expect_request("**/v1/chat/completions") as asked:
        page.click(".retry")
    assert json.loads(asked.value.post_data or "{}")["messages"] == first
    answered(page)


def test_a_second_turn_carries_the_first(page: Page) -> None:
    attach(page, "image")
    ask(page, "What is this?")
    answered(page)
    messages = sent_body(page, "Sure?")["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"][1]["type"] == "image_url"


def test_an_error_of_the_server_is_shown_in_its_words(page: Page) -> None:
    page.set_input_files("#files", [{"name": "cut.png", "mimeType": "image/png", "buffer": picture()[:60]}])
    ask(page, "What is this?")
    expect(page.locator("article.assistant .error")).to_contain_text(re.compile("truncated|damaged"))
    expect(page.locator("#send")).to_be_visible()


def test_a_file_that_is_no_medium_is_refused_with_a_sentence(page: Page) -> None:
    page.set_input_files("#files", [{"name": "letter.docx", "mimeType": "", "buffer": b"PK"}])
    expect(page.locator("#alert")).to_contain_text("letter.docx")
    expect(page.locator("#attachments li")).to_have_count(0)


def test_the_microphone_and_the_camera_attach_what_they_record(page: Page) -> None:
    page.click("#record")
    expect(page.locator("#record")).to_have_attribute("aria-pressed", "true")
    page.click("#camera")
    expect(page.locator("#camera-view")).to_have_js_property("paused", False)
    page.click("#camera-shot")
    expect(page.locator("#attachments li[data-kind=image]")).to_have_count(1)
    page.click("#record")
    expect(page.locator("#attachments li[data-kind=audio]")).to_have_count(1)
    ask(page, "What is this?")
    answered(page)


def test_dropped_and_pasted_files_are_attached(page: Page) -> None:
    drop = """kind => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array([137, 80, 78, 71])], "dropped.png", {type: "image/png"}));
        const init = {bubbles: true, cancelable: true};
        const event = kind === "drop" ? new DragEvent("drop", {...init, dataTransfer: transfer})
                                      : new ClipboardEvent("paste", {...init, clipboardData: transfer});
        document.body.dispatchEvent(event);
    }"""
    for count, kind in enumerate(("drop", "paste"), start=1):
        page.evaluate(drop, kind)
        expect(page.locator("#attachments li")).to_have_count(count)


def test_conversations_outlive_a_reload_and_can_be_deleted(page: Page) -> None:
    attach(page, "image")
    ask(page, "Remember this question")
    answered(page)
    page.reload()
    page.click("#conversations .open >> text=Remember this question")
    expect(page.locator("article.user img")).to_be_visible()
    answered(page)
    page.click("#conversations [aria-label^=Delete]")
    expect(page.locator("#conversations li")).to_have_count(0)


def test_settings_are_kept_and_sent(page: Page) -> None:
    page.click("#open-settings")
    page.fill("#setting-temperature", "0.7")
    page.fill("#setting-seed", "5")
    page.select_option("#setting-scope", "all")
    page.keyboard.press("Escape")
    page.reload()
    body = sent_body(page, "Hello")
    assert (body["temperature"], body["seed"], body["bind"]["scope"]) == (0.7, 5, "all")


def test_the_page_works_by_keyboard_alone(page: Page) -> None:
    page.locator("body").press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.locator("#question")).to_be_focused()


def test_a_phone_sees_everything_without_scrolling_sideways(server: LiveServer) -> None:
    with open_page(server.url, width=360, height=720) as page:
        attach(page, "image", "audio", "point_cloud")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("#open-history")
        expect(page.locator("#new-chat")).to_be_visible()


def test_the_dark_theme_is_remembered(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    page.reload()
    assert page.evaluate(background) != light


def test_a_server_with_keys_asks_for_one_and_takes_it() -> None:
    with live_server(default_max_tokens=4, api_keys="secret-key") as server, open_page(server.url) as page:
        expect(page.locator("#status")).to_contain_text("needs an API key")
        page.click("#open-settings")
        page.fill("#setting-key", "secret-key")
        page.keyboard.press("Tab")
        expect(page.locator("#status")).to_have_text("tiny ready")
        page.keyboard.press("Escape")
        ask(page, "Hello")
        answered(page)


def test_the_page_serves_only_its_own_files(server: LiveServer) -> None:
    for name in ("../settings.py", "%2e%2e/settings.py", "js/../../app.py", "nothing.js"):
        assert server.get(f"/web/{name}").status_code == 404


def test_every_control_has_a_name_for_screen_readers(page: Page) -> None:
    attach(page, "image")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, select, canvas, img")]
        .filter(e => !e.closest("[aria-hidden=true]") && e.id !== "files")
        .filter(e => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length || e.alt !== undefined))
        .map(e => e.outerHTML)""")
    assert nameless == []


def test_the_folder_of_the_page_is_part_of_the_package() -> None:
    pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
    assert "web/js/*.js" in pyproject.read_text()
