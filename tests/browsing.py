"""The gallery's page in Chromium."""

import contextlib
import functools
import importlib.util
import os
import re
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from conftest import BROWSER, IS_LONG, PATIENCE_SECONDS

MILLISECONDS = 1000 * PATIENCE_SECONDS
expect.set_options(timeout=MILLISECONDS)

_WITH_AXE = importlib.util.find_spec("axe_playwright_python")
AXE = next(
    filter(
        Path.is_file,
        [
            Path(os.environ.get("IMGSEARCH_AXE", "axe.min.js")),
            Path(_WITH_AXE.origin if _WITH_AXE and _WITH_AXE.origin else "").parent / "axe.min.js",
        ],
    ),
    None,
)
"""axe-core: one of your own, or the one that a Python package brings along."""
# What the browser itself writes there when a question is refused, which the page then says in words.
REFUSED = re.compile("the server responded with a status of (422|503)")
LOOKS = [(scheme, width, 860) for scheme in ("light", "dark") for width in (1280, 390, 1600)]
if not IS_LONG:
    LOOKS = LOOKS[::2]  # both schemes, and all widths
AXE_LOOKS = LOOKS if IS_LONG else LOOKS[::2]
"""axe takes longer than everything else: a wide window and a narrow one, each in its own scheme."""
# Put here by a person who wants to look at what the tests saw.
SCREENSHOTS = os.environ.get("IMGSEARCH_SCREENSHOTS")


def is_refusal(message):
    is_missing_photo = "/api/photos/" in message.location["url"] and "status of 404" in message.text
    return REFUSED.search(message.text) or is_missing_photo


@contextlib.contextmanager
def chromium():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@functools.cache
def window(browser, scheme="light", width=1280, height=860):
    """A window of the browser, which takes as long to open as a test. Its first tab keeps it open."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, has_touch=width < 500, is_mobile=width < 500
    )
    context.set_default_timeout(MILLISECONDS)
    context.new_page()
    return context


@contextlib.contextmanager
def tab(context):
    """A new tab of a window, which knows nothing of those before."""
    context.clear_cookies()
    page = context.new_page()
    try:
        yield page
    finally:
        page.close()


@contextlib.contextmanager
def shown(browser, link, *look, name):
    """The page, open; whatever the console says, or whatever runs that should not, fails the test."""
    with tab(window(browser, *look)) as page:
        complaints: list[str] = []
        page.on("console", lambda message: is_refusal(message) or complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda sent: sent.headers.get("referer") and complaints.append(sent.headers["referer"]))
        page.goto(link)
        expect(page.locator(".card").first).to_be_visible(timeout=MILLISECONDS)
        yield page
        ran = page.evaluate("window.ran")
        if SCREENSHOTS:
            page.screenshot(path=str(Path(SCREENSHOTS) / f"{re.sub(r'[^a-zA-Z0-9]+', '-', name)}.png"))
    assert (complaints, ran) == ([], None)


def search(page, words):
    page.fill("#words", words)
    with answered(page):
        page.press("#words", "Enter")


@contextlib.contextmanager
def answered(page):
    """Until the answer to what is done here is on the page."""
    with page.expect_response("**/api/search"):
        yield
    expect(page.locator("#grid")).not_to_have_attribute("aria-busy", "true")


def loaded(picture):
    """Until a picture has its size, which decides what is measured around it."""
    picture.evaluate("picture => picture.decode()")


def names(page):
    return page.locator(".card .open img").evaluate_all("images => images.map(image => image.alt)")


def axe(page, where):
    expect(page.locator("[aria-busy]")).to_have_count(0)
    page.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished))")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        (where, each["id"], each["impact"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
