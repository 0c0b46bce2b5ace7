"""The page at /, in a real browser."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator

import pytest

from edge_ocr.serving import app as serving_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("no chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(start, browser) -> Iterator[object]:
    """The page in Chromium; it ends with no error in the console."""
    service = start()
    with browser.new_context(permissions=["clipboard-read", "clipboard-write"]) as context:
        opened = context.new_page()
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        # The browser logs a refusal of the service as an error, too.
        opened.on("console", lambda said: errors.append(said.text) if "status of 422" not in said.text else None)
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(service.url)
        yield opened
    assert errors == []
    assert all(url.startswith((service.url, "data:")) for url in asked)


def read_lines(page) -> list[str]:
    return page.locator("#lines li span").all_inner_texts()


def test_chosen_picture_is_read_and_shown(page, examples, read_example):
    page.set_input_files("#file", examples / "sign.png")
    page.wait_for_selector("#result:not([hidden])")
    expected = read_example("sign.png")
    assert read_lines(page) == expected["rec_text"]
    assert page.inner_text("#status").startswith("4 lines in ")
    assert page.locator("#picture").evaluate("picture => picture.naturalWidth") == 640
    # The boxes are over the picture, each in its place.
    picture = page.locator("#picture").bounding_box()
    scale = picture["width"] / 640
    for polygon, corners in zip(page.locator("#boxes polygon").all(), expected["dt_polys"], strict=True):
        box = polygon.bounding_box()
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        assert box["x"] - picture["x"] == pytest.approx(left * scale, abs=1.5)
        assert box["y"] - picture["y"] == pytest.approx(top * scale, abs=1.5)


def test_lines_are_copied(page, examples, read_example):
    page.set_input_files("#file", examples / "sign.png")
    page.wait_for_selector("#lines li")
    texts = read_example("sign.png")["rec_text"]

    def wait_for_copy(text: str) -> None:
        # Not by the browser's own waiting, which the page's policy may refuse to run.
        deadline = time.monotonic() + 20
        while page.evaluate("navigator.clipboard.readText()") != text:
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)

    page.click("#lines li:nth-child(3) button")
    wait_for_copy(texts[2])
    assert page.inner_text("#status") == "Copied."
    page.locator("#boxes polygon").nth(1).click()
    wait_for_copy(texts[1])
    page.click("#copy")
    wait_for_copy("\n".join(texts))


def test_words_are_shown_and_copied(page, examples, read_example):
    page.set_input_files("#file", examples / "sign.png")
    page.wait_for_selector("#lines li")
    assert page.locator("mark").count() == 0
    page.check("#words")
    page.wait_for_selector("mark")
    expected = read_example("sign.png", Recognition__return_words="words")
    words = [word for line in expected["text_word"] for word in line]
    assert page.locator("mark").all_inner_texts() == words
    assert read_lines(page) == expected["rec_text"]
    assert page.locator("#boxes polygon").count() == len(expected["rec_text"]) + len(words)
    # The boxes of words follow those of lines.
    word = page.locator("#boxes polygon").nth(len(expected["rec_text"]) + len(words) - 1)
    word.hover()
    assert page.locator("mark.on").all_inner_texts() == words[-1:]
    word.click()
    page.wait_for_selector("text=Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == words[-1]
    page.locator("mark").first.click()
    page.wait_for_timeout(300)
    assert page.evaluate("navigator.clipboard.readText()") == words[0]
    # The choice is kept.
    page.reload()
    assert page.is_checked("#words")


def test_dropped_picture_is_read(page, examples):
    content = base64.b64encode((examples / "sign.png").read_bytes()).decode()
    data = page.evaluate_handle(
        """async (content) => {
            const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "sign.png", { type: "image/png" }));
            return transfer;
        }""",
        content,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    page.wait_for_selector("#lines li")
    assert len(read_lines(page)) == 4


def test_refusal_is_shown_and_the_next_picture_read(page, examples, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    page.set_input_files("#file", bad)
    page.wait_for_selector("#status.failed")
    assert "supported picture" in page.inner_text("#status")
    assert page.is_hidden("#result")
    page.set_input_files("#file", examples / "label.png")
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#status.failed").count() == 0


def test_docs_are_a_click_away(page):
    page.click("a[href=docs]")
    assert "curl -F image=@photo.jpg http" in page.inner_text("section")
    page.click("text=Try it")
    assert page.locator("#file").count() == 1


def test_texts_are_not_markup(page, examples, monkeypatch):
    answer = serving_app._answer

    def forge(*arguments: object) -> dict[str, object]:
        result = answer(*arguments)
        result["texts"][0]["text"] = "<img src=x onerror=alert(1)>"
        return result

    monkeypatch.setattr(serving_app, "_answer", forge)
    page.set_input_files("#file", examples / "sign.png")
    page.wait_for_selector("#lines li")
    assert read_lines(page)[0] == "<img src=x onerror=alert(1)>"
    assert page.locator("#lines img").count() == 0
