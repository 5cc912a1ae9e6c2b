"""Several photos in the gallery: selected by hand and by keyboard, downloaded, copied and noted."""

import re
import shutil
import zipfile

import pytest

from conftest import ALBUM

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from browsing import AXE, BROWSER, axe, chromium, names, search, shown
from gallery import index, opened
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")

ALL = ("banana", "carrots", "lemon", "orange", "plum", "watermelon")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("selection")
    (base / "photos").mkdir()
    for name in ALL:
        shutil.copy(ALBUM / f"{name}.jpg", base / "photos")
    index(base)
    return base


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(request, browser, base):
    with opened(base) as gallery, shown(browser, gallery.link, name=request.node.name) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


def select(page, at, **more):
    page.locator(".pick").nth(at).click(**more)


def test_photos_are_selected_and_downloaded_as_one_archive(page, tmp_path):
    select(page, 1)
    select(page, 3, modifiers=["Shift"])
    expect(page.locator("#picked-count")).to_have_text("3 photos selected")
    select(page, 2)
    expect(page.get_by_role("region", name="Selected photos")).to_contain_text("2 photos selected")
    expect(page.locator("#picked-live")).to_have_text("2 photos selected")
    wanted = {names(page)[1], names(page)[3]}
    search(page, "a yellow lemon")  # another query leaves the selection as it is
    assert set(page.locator(".card:has(.pick:checked) .open img").evaluate_all("all => all.map(i => i.alt)")) == wanted
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "photos.zip"
    download.value.save_as(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert {each: archive.read(each) for each in archive.namelist()} == {
            name: (ALBUM / name).read_bytes() for name in wanted
        }
    expect(page.locator("#picked-told")).to_have_text(re.compile(r"^downloading 2 photos, \d+ kB$"))
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator(".pick:checked")).to_have_count(0)
    expect(page.locator("#photos")).to_be_focused()


def test_the_keyboard_selects_and_reaches_what_can_be_done(page, base):
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("#picked-live")).to_have_text("2 photos selected")
    first, second = names(page)[:2]
    page.keyboard.press("s")
    expect(page.locator("#download")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#picked-live")).to_have_text("2 paths copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{base / 'photos' / first}\n{base / 'photos' / second}\n"
    page.keyboard.press("Escape")
    expect(page.locator("#picked")).to_be_hidden()
    expect(page.locator("#picked-live")).to_have_text("no photo selected")


def test_a_note_is_added_to_all(page):
    page.locator(".open").first.click()
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Select")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    page.locator(".open").nth(1).click(modifiers=["Control"])
    page.get_by_role("button", name="Add a note").click()
    expect(page.locator("#note-text")).to_be_focused()
    page.keyboard.type("the market in Porto")
    page.keyboard.press("Enter")
    expect(page.locator("#picked-told")).to_have_text("note added to 2 photos")
    expect(page.locator("#show-note")).to_be_focused()
    page.locator(".open").nth(1).click()
    expect(page.locator("#texts")).to_contain_text("the market in Porto")
    page.keyboard.press("Escape")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#fresh")).to_be_hidden()  # one's own change is nothing new


def test_the_selection_is_in_nobodys_way(browser, base):
    if AXE is None:
        pytest.skip("no axe-core: pip install axe-playwright-python")
    for scheme, width in (("light", 320), ("dark", 390), ("dark", 1280)):
        with opened(base) as gallery, shown(browser, gallery.link, scheme, width, name=f"select-{width}") as page:
            select(page, 0)
            page.get_by_role("button", name="Add a note").click()
            page.evaluate(AXE.read_text())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert axe(page, width) == []
